// Command seed writes the containerd store that a node's data disk starts with: the images of
// the archives given, in the namespace of CRI, with neither a daemon nor an import at boot.
//
//	seed -root DIR ARCHIVE...
//
// It prints each image's name and digest.
//
// Exit 2 means that an archive is at fault, 1 that something else is.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
)

// Where containerd's plugins of these names keep their state, below its root.
const (
	contentDir  = "io.containerd.content.v1.content"
	metadataDir = "io.containerd.metadata.v1.bolt"
)

// A name with these labels, and a second name that is the image's id, is what CRI makes of a
// fresh image when it starts: written here, it finds nothing to do. Pinned, since kubelet's
// garbage collection would else delete what no registry can give back.
var criLabels = map[string]string{
	"io.cri-containerd.image":  "managed",
	"io.cri-containerd.pinned": "pinned",
}

// badArchive is an error that the archive's owner can mend.
type badArchive struct{ error }

func main() {
	root := flag.String("root", "", "containerd's root directory, made if absent")
	platform := flag.String("platform", "linux/amd64", "platform of the node")
	flag.Parse()
	err := run(*root, *platform, flag.Args())
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, err)
	if errors.As(err, new(badArchive)) {
		os.Exit(2)
	}
	os.Exit(1)
}

func run(root, platform string, archives []string) error {
	if root == "" {
		return errors.New("seed: -root is missing")
	}
	p, err := platforms.Parse(platform)
	if err != nil {
		return err
	}
	blobs, err := local.NewStore(filepath.Join(root, contentDir))
	if err != nil {
		return err
	}
	dir := filepath.Join(root, metadataDir)
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	file, err := open(filepath.Join(dir, "meta.db.new"))
	if err != nil {
		return err
	}
	defer os.Remove(file.Path())
	defer file.Close()
	ctx := namespaces.WithNamespace(context.Background(), "k8s.io")
	db := metadata.NewDB(file, blobs, nil)
	if err := db.Init(ctx); err != nil {
		return err
	}
	for _, name := range archives {
		if err := add(ctx, db, platforms.Only(p), name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	same, err := open(filepath.Join(dir, "meta.db"))
	if err != nil {
		return err
	}
	defer same.Close()
	return copySame(file, same)
}

func open(name string) (*bolt.DB, error) {
	return bolt.Open(name, 0o644, &bolt.Options{NoSync: true})
}

// copySame copies all records in their order, each with the same time: the same archives make the
// same bytes.
func copySame(from, to *bolt.DB) error {
	same, err := time.Unix(0, 0).UTC().MarshalBinary()
	if err != nil {
		return err
	}
	err = from.View(func(tx *bolt.Tx) error {
		return copyBucket(tx.Cursor().Bucket(), to, nil, same)
	})
	if err != nil {
		return err
	}
	return to.Sync()
}

// copyBucket copies one bucket, then those in it. Each by a transaction of its own: of several that
// one has changed bolt writes any first.
func copyBucket(from *bolt.Bucket, to *bolt.DB, path [][]byte, same []byte) error {
	var buckets [][]byte
	err := to.Update(func(tx *bolt.Tx) error {
		bucket := tx.Cursor().Bucket()
		for _, name := range path {
			var err error
			if bucket, err = bucket.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return from.ForEach(func(key, value []byte) error {
			switch {
			case value == nil:
				buckets = append(buckets, key)
				return nil
			case string(key) == "createdat" || string(key) == "updatedat":
				value = same
			}
			return bucket.Put(key, value)
		})
	})
	for _, name := range buckets {
		if err == nil {
			err = copyBucket(from.Bucket(name), to, append(path[:len(path):len(path)], name), same)
		}
	}
	return err
}

// add puts the images of one archive into the store.
func add(ctx context.Context, db *metadata.DB, platform platforms.MatchComparer, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	tar, err := compression.DecompressStream(f)
	if err != nil {
		return badArchive{fmt.Errorf("not an image archive: %w", err)}
	}
	defer tar.Close()
	store := db.ContentStore()
	index, err := archive.ImportIndex(ctx, store, tar)
	if err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return badArchive{errors.New("the archive is cut short")}
		}
		return badArchive{fmt.Errorf("not an image archive: %w", err)}
	}
	found := map[string]ocispec.Descriptor{}
	walk := images.HandlerFunc(func(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		children, err := images.Children(ctx, store, d)
		if err == nil && d.Digest == index.Digest {
			err = names(children, found)
		}
		return children, err
	})
	// The labels tell containerd's garbage collector what belongs to an image.
	handler := images.SetChildrenLabels(store, images.FilterPlatforms(walk, platform))
	if err := images.WalkNotEmpty(ctx, handler, index); err != nil {
		return badArchive{fmt.Errorf("no complete image for this platform in it: %w", err)}
	}
	if len(found) == 0 {
		return badArchive{errors.New("no image with a name in it")}
	}
	return record(ctx, db, store, platform, found)
}

// names collects the images that the archive's index gives a name.
func names(manifests []ocispec.Descriptor, found map[string]ocispec.Descriptor) error {
	for _, m := range manifests {
		name := m.Annotations[images.AnnotationImageName]
		if name == "" {
			name = m.Annotations[ocispec.AnnotationRefName]
		}
		if name == "" {
			continue
		}
		ref, err := reference.ParseDockerRef(name)
		if err != nil {
			return fmt.Errorf("image name %q: %w", name, err)
		}
		found[ref.String()] = m
	}
	return nil
}

// record enters the images by name and by id.
func record(ctx context.Context, db *metadata.DB, store content.Store, platform platforms.MatchComparer, found map[string]ocispec.Descriptor) error {
	list := metadata.NewImageStore(db)
	for name, target := range found {
		config, err := images.Config(ctx, store, target, platform)
		if err != nil {
			return badArchive{fmt.Errorf("image %s: %w", name, err)}
		}
		for _, key := range []string{name, config.Digest.String()} {
			image := images.Image{Name: key, Target: target, Labels: criLabels}
			_, err := list.Create(ctx, image)
			if errdefs.IsAlreadyExists(err) {
				_, err = list.Update(ctx, image)
			}
			if err != nil {
				return err
			}
		}
		fmt.Println(name, target.Digest)
	}
	return nil
}

// Command pods writes one OCI archive: an image of one layer, made of a directory.
//
//	pods -name REFERENCE -tree DIR -out FILE.tar ENTRYPOINT [ARG]...
//
// The same input gives the same bytes: no time of today, one owner, sorted names.
package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func main() {
	name := flag.String("name", "", "reference of the image")
	tree := flag.String("tree", "", "directory that becomes the image's root")
	out := flag.String("out", "", "archive to write")
	arch := flag.String("arch", "amd64", "architecture of the image")
	flag.Parse()
	if *name == "" || *tree == "" || *out == "" || flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "pods: -name, -tree, -out and an entry point are needed")
		os.Exit(2)
	}
	if err := run(*name, *tree, *out, *arch, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "pods:", err)
		os.Exit(1)
	}
}

func run(name, tree, out, arch string, entrypoint []string) error {
	image, err := build(tree, arch, entrypoint)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "pods")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	annotation := map[string]string{"org.opencontainers.image.ref.name": name}
	if err := path.AppendImage(image, layout.WithAnnotations(annotation)); err != nil {
		return err
	}
	archive, err := pack(dir)
	if err != nil {
		return err
	}
	return os.WriteFile(out, archive, 0o644)
}

func build(tree, arch string, entrypoint []string) (v1.Image, error) {
	files, err := pack(tree)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(files)), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.AppendLayers(base, layer)
	if err != nil {
		return nil, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS = "linux"
	file.Architecture = arch
	file.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	file.Config.Entrypoint = entrypoint
	file.Config.Env = []string{"PATH=/bin"}
	return mutate.ConfigFile(image, file)
}

// pack makes a tar archive of a directory.
func pack(root string) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		link := ""
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			if link, err = os.Readlink(path); err != nil {
				return err
			}
		case !info.IsDir() && !info.Mode().IsRegular():
			return errors.New(path + ": neither file, directory nor link")
		}
		h, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return err
		}
		if h.Name, err = filepath.Rel(root, path); err != nil {
			return err
		}
		h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "", ""
		h.ModTime, h.AccessTime, h.ChangeTime = time.Unix(0, 0), time.Time{}, time.Time{}
		if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

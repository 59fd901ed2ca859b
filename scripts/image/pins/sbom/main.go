// Command sbom lists what is in a node's image, as CycloneDX, and collects the licences of it.
//
//	sbom -name NAME -version VERSION -out FILE -licences DIR -cargo METADATA -rust VERSION -debian TREES -images FILE PROGRAM... -- PACKAGE.deb...
//
// Go's modules are read from the programs, Rust's crates from what `cargo metadata` says, Debian's
// packages from the names of their files. Images are listed as such, by what seed printed: what is
// in them is not looked into.
package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"sort"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
	classifier "github.com/google/licenseclassifier/v2"
	"github.com/google/licenseclassifier/v2/assets"
	"golang.org/x/mod/module"
)

// How much a text must be like a known one to take its name.
const certain = 0.9

// Files that hold licences.
var licence = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|unlicense)`)

// list collects components, each once, and the licences of each.
type list struct {
	components map[string]cdx.Component
	licences   string
	known      *classifier.Classifier
}

func main() {
	name := flag.String("name", "", "of the image")
	version := flag.String("version", "", "of the image")
	out := flag.String("out", "", "the list")
	licences := flag.String("licences", "", "a directory for the licences, made if absent")
	cargo := flag.String("cargo", "", "what cargo metadata says")
	rust := flag.String("rust", "", "version of Rust's core library")
	debian := flag.String("debian", "", "where the packages are unpacked, several by commas")
	images := flag.String("images", "", "names and digests of images, a line for each")
	flag.Parse()
	programs, packages := flag.Args(), []string(nil)
	if at := slices.Index(programs, "--"); at >= 0 {
		programs, packages = programs[:at], programs[at+1:]
	}
	known, err := assets.DefaultClassifier()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
	l := list{components: map[string]cdx.Component{}, licences: *licences, known: known}
	core := cdx.Component{Name: "core", Version: *rust, PackageURL: "pkg:generic/rust-core@" + *rust}
	core.Licenses = &cdx.Licenses{{Expression: "MIT OR Apache-2.0"}}
	l.components[core.PackageURL] = core
	err = l.crates(*cargo)
	for _, program := range programs {
		err = errors.Join(err, l.modules(program))
	}
	for _, deb := range packages {
		err = errors.Join(err, l.debian(deb, strings.Split(*debian, ",")))
	}
	err = errors.Join(err, l.images(*images))
	if err == nil {
		err = l.write(*name, *version, *out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

// crates adds those that are linked to init: what it depends on for more than tests and build scripts.
func (l *list) crates(metadata string) error {
	text, err := os.ReadFile(metadata)
	if err != nil {
		return err
	}
	var said struct {
		Packages []struct {
			ID, Name, Version, License string
			ManifestPath               string `json:"manifest_path"`
		}
		Resolve struct {
			Root  string
			Nodes []struct {
				ID   string
				Deps []struct {
					Pkg      string
					DepKinds []struct{ Kind *string } `json:"dep_kinds"`
				}
			}
		}
	}
	if err := json.Unmarshal(text, &said); err != nil {
		return err
	}
	linked := map[string]bool{}
	todo := []string{said.Resolve.Root}
	for len(todo) > 0 {
		id := todo[0]
		todo = todo[1:]
		if linked[id] {
			continue
		}
		linked[id] = true
		for _, node := range said.Resolve.Nodes {
			for _, dep := range node.Deps {
				for _, kind := range dep.DepKinds {
					if node.ID == id && kind.Kind == nil {
						todo = append(todo, dep.Pkg)
					}
				}
			}
		}
	}
	for _, p := range said.Packages {
		if !linked[p.ID] {
			continue
		}
		c := cdx.Component{Name: p.Name, Version: p.Version, PackageURL: "pkg:cargo/" + p.Name + "@" + p.Version}
		c.Licenses = &cdx.Licenses{{Expression: p.License}}
		if err := l.add(c, filepath.Dir(p.ManifestPath)); err != nil {
			return err
		}
	}
	return nil
}

// modules adds those that a program is made of, and Go's own library.
func (l *list) modules(program string) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return err
	}
	std := &debug.Module{Path: "std", Version: strings.TrimPrefix(info.GoVersion, "go")}
	if err := l.module(std, strings.TrimSpace(string(root))); err != nil {
		return err
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Replace != nil {
			m = m.Replace
		}
		if m.Path == "" || m.Version == "(devel)" || m.Version == "" {
			// The pin itself.
			continue
		}
		if err := l.module(m, ""); err != nil {
			return err
		}
	}
	return nil
}

func (l *list) module(m *debug.Module, dir string) error {
	if dir == "" {
		cache, err := exec.Command("go", "env", "GOMODCACHE").Output()
		if err != nil {
			return err
		}
		path, err := module.EscapePath(m.Path)
		if err != nil {
			return err
		}
		version, err := module.EscapeVersion(m.Version)
		if err != nil {
			return err
		}
		dir = filepath.Join(strings.TrimSpace(string(cache)), path+"@"+version)
		if _, err := os.Stat(dir); err != nil {
			// What is compiled is kept longer than what it was compiled from.
			if said, err := exec.Command("go", "mod", "download", m.Path+"@"+m.Version).CombinedOutput(); err != nil {
				return fmt.Errorf("%s@%s: %w: %s", m.Path, m.Version, err, said)
			}
		}
	}
	c := cdx.Component{Name: m.Path, Version: m.Version, PackageURL: "pkg:golang/" + m.Path + "@" + m.Version}
	return l.add(c, dir)
}

// debian adds a package: NAME_VERSION_ARCHITECTURE.deb.
func (l *list) debian(deb string, trees []string) error {
	parts := strings.Split(strings.TrimSuffix(deb, ".deb"), "_")
	if len(parts) != 3 {
		return fmt.Errorf("%s: no name of a Debian package", deb)
	}
	version := strings.ReplaceAll(parts[1], "%3a", ":")
	c := cdx.Component{Name: parts[0], Version: version}
	c.PackageURL = fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s", parts[0], strings.ReplaceAll(version, "+", "%2B"), parts[2])
	for _, tree := range trees {
		text, err := os.ReadFile(filepath.Join(tree, "usr/share/doc", parts[0], "copyright"))
		if err == nil {
			l.components[c.PackageURL] = c
			return l.keep(c, "copyright", text)
		}
	}
	return fmt.Errorf("%s: no copyright file", deb)
}

// images adds those of a file.
func (l *list) images(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		name, digest, _ := strings.Cut(strings.TrimSpace(line), " ")
		// One that is named by its digest has no tag.
		repository, _, _ := strings.Cut(name, "@")
		tag := ""
		if at := strings.LastIndex(repository, ":"); at > strings.LastIndex(repository, "/") {
			repository, tag = repository[:at], "&tag="+repository[at+1:]
		}
		c := cdx.Component{Type: cdx.ComponentTypeContainer, Name: name, Version: digest}
		c.PackageURL = fmt.Sprintf("pkg:oci/%s@%s?repository_url=%s%s", filepath.Base(repository),
			strings.ReplaceAll(digest, ":", "%3A"), repository, tag)
		l.components[c.PackageURL] = c
	}
	return nil
}

// add adds a component with the licences that are in its directory.
func (l *list) add(c cdx.Component, dir string) error {
	if _, known := l.components[c.PackageURL]; known {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", c.PackageURL, err)
	}
	names := map[string]bool{}
	for _, entry := range entries {
		if !entry.Type().IsRegular() || !licence.MatchString(entry.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return err
		}
		for _, match := range l.known.Match(text).Matches {
			if match.MatchType == "License" && match.Confidence >= certain {
				names[match.Name] = true
			}
		}
		if err := l.keep(c, entry.Name(), text); err != nil {
			return err
		}
	}
	if c.Licenses == nil && len(names) > 0 {
		var all cdx.Licenses
		for name := range names {
			all = append(all, cdx.LicenseChoice{License: &cdx.License{ID: name}})
		}
		sort.Slice(all, func(i, j int) bool { return all[i].License.ID < all[j].License.ID })
		c.Licenses = &all
	}
	l.components[c.PackageURL] = c
	return nil
}

// keep writes a licence.
func (l *list) keep(c cdx.Component, name string, text []byte) error {
	dir := filepath.Join(l.licences, strings.ReplaceAll(c.Name, "/", "_")+"@"+strings.ReplaceAll(c.Version, "/", "_"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), text, 0o644)
}

// write writes the list, the same bytes each time.
func (l *list) write(name, version, out string) error {
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: &cdx.Component{Type: cdx.ComponentTypeOS, Name: name, Version: version}}
	var all []cdx.Component
	for url, c := range l.components {
		if c.BOMRef = url; c.Type == "" {
			c.Type = cdx.ComponentTypeLibrary
		}
		all = append(all, c)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].BOMRef < all[j].BOMRef })
	bom.Components = &all
	var text bytes.Buffer
	if err := cdx.NewBOMEncoder(&text, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom); err != nil {
		return err
	}
	return os.WriteFile(out, text.Bytes(), 0o644)
}

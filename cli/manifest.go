package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/warpket/warpket"
)

// manifestName is the file that says what a folder is.
const manifestName = "warpket.yaml"

// manifest says which function a folder holds.
type manifest struct {
	Name        string `yaml:"name"`
	Template    string `yaml:"template"`
	SDKVersion  string `yaml:"sdkVersion,omitempty"`
	Description string `yaml:"description,omitempty"`
	Entry       string `yaml:"entry,omitempty"`
}

func readManifest(dir string) (manifest, error) {
	var m manifest
	file := filepath.Join(dir, manifestName)
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return m, &hinted{warpket.Errorf(warpket.NotFound, "%s is not there: it says which function the folder holds", file), "warpket init TEMPLATE"}
	}
	if err != nil {
		return m, err
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&m); err != nil && !errors.Is(err, io.EOF) {
		return m, warpket.Errorf(warpket.Invalid, "%s cannot be read: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if m.Template == "" {
		return m, warpket.Errorf(warpket.Invalid, "%s names no template; it needs: template: Qiskit, or another of \"warpket templates\"", file)
	}
	if err := warpket.CheckName("function", m.Name); err != nil {
		return m, warpket.Errorf(warpket.Invalid, "%s: name: %s", file, err.Error())
	}
	return m, nil
}

// localFile is a file of a function's folder.
type localFile struct {
	name    string // from the folder, with / between folders
	content []byte
}

// localFiles reads the files of a function's folder: all but the manifest,
// what is hidden and what Python leaves behind.
func localFiles(dir string) ([]localFile, error) {
	var files []localFile
	var total int64
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || name == ".":
			return err
		case left(name) && d.IsDir():
			return fs.SkipDir
		case left(name) || d.IsDir():
			return nil
		case !d.Type().IsRegular():
			return warpket.Errorf(warpket.Invalid, "%s is no plain file: a version holds only plain files", path.Join(dir, name))
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Size() > warpket.MaxFileSize {
			return warpket.Errorf(warpket.TooLarge, "%s has %s; a file has at most %s", path.Join(dir, name), size(info.Size()), size(warpket.MaxFileSize))
		}
		if total += info.Size(); total > warpket.MaxVersionSize || len(files) == warpket.MaxFiles {
			return warpket.Errorf(warpket.TooLarge, "%s holds more than %d files or %s: is this a function's folder?", dir, warpket.MaxFiles, size(warpket.MaxVersionSize))
		}
		b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		files = append(files, localFile{name, b})
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, warpket.Errorf(warpket.Invalid, "%s holds no files but %s", dir, manifestName)
	}
	return files, nil
}

// left reports whether a file or folder is no part of a function.
func left(name string) bool {
	base := path.Base(name)
	return name == manifestName || strings.HasPrefix(base, ".") || base == "__pycache__" || strings.HasSuffix(base, ".pyc")
}

// write writes new files into a folder, which need not exist, and no file that
// is there already. Nothing leaves the folder.
func write(dir string, files []localFile) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for _, f := range files {
		if _, err := root.Lstat(filepath.FromSlash(f.name)); err == nil {
			return warpket.Errorf(warpket.Conflict, "%s is there already, and nothing was written: choose another folder", filepath.Join(dir, f.name))
		}
	}
	for _, f := range files {
		if err := writeNew(root, filepath.FromSlash(f.name), f.content); err != nil {
			return fmt.Errorf("writing %s: %w", filepath.Join(dir, f.name), err)
		}
	}
	return nil
}

func writeNew(root *os.Root, name string, content []byte) error {
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

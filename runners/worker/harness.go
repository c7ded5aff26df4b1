package worker

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/warpket/warpket"
)

//go:embed harness/__main__.py harness/warpket_harness/*.py
var harness embed.FS

// WriteHarness writes the Python side of a worker below dir, read-only, and
// returns its folder. The folder is named by its content: one that is there
// already is taken as it is, and releases do not get in each other's way.
func WriteHarness(dir string) (string, error) {
	files, digest, err := harnessFiles()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(dir, "harness-"+digest[:16])
	if _, err := os.Stat(folder); err == nil {
		return folder, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("writing the harness: %w", err)
	}
	temp, err := os.MkdirTemp(dir, ".harness-")
	if err != nil {
		return "", fmt.Errorf("writing the harness: %w", err)
	}
	defer func() { _ = os.RemoveAll(temp) }()
	for name, content := range files {
		path := filepath.Join(temp, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", fmt.Errorf("writing the harness: %w", err)
		}
		if err := os.WriteFile(path, content, 0o444); err != nil { //nolint:gosec // workers of any user read it
			return "", fmt.Errorf("writing the harness: %w", err)
		}
	}
	if err := os.Chmod(temp, 0o755); err != nil { //nolint:gosec // as above
		return "", fmt.Errorf("writing the harness: %w", err)
	}
	err = os.Rename(temp, folder)
	if _, there := os.Stat(folder); err != nil && there != nil {
		return "", fmt.Errorf("writing the harness: %w", err)
	}
	return folder, nil
}

func harnessFiles() (files map[string][]byte, digest string, err error) {
	files = map[string][]byte{}
	var all []byte
	root, err := fs.Sub(harness, "harness")
	if err != nil {
		return nil, "", err
	}
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(root, name)
		files[name] = content
		all = append(all, name+"\x00"...)
		all = append(all, content...)
		return err
	})
	return files, warpket.SHA256(all), err
}

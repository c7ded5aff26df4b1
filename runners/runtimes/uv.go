package runtimes

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/warpket/warpket"
)

// uv is the installer, fetched as its wheel. The hashes are those of the
// manylinux wheels of this version: another file is not accepted.
const uvVersion = "0.13.8"

var uvWheels = map[string]string{
	"amd64": "e18a57b8b352eb7c8feb317b9f6f533c8f0ad9673fd6cf34bbe3cf1a9f6a8984",
	"arm64": "0b3e8b1a4f5e405e31e2ff33de8af4744831e9f7338539671efbd8c3c94e791d",
}

const (
	maxUV     = 256 << 20 // bytes of the program
	uvTimeout = 10 * time.Minute
)

// UV gives the path of the uv program, which it fetches the first time.
func (s *Store) UV(ctx context.Context, progress func(string)) (string, error) {
	if s.config.UV != "" {
		return s.config.UV, nil
	}
	path := filepath.Join(s.config.Dir, "tools", "uv-"+uvVersion, "uv")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	progress("downloading uv " + uvVersion)
	// One download serves all who wait, so it does not end with the first of them.
	fetched := s.fetches.DoChan(path, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), uvTimeout)
		defer cancel()
		return nil, s.fetchUV(ctx, path)
	})
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case r := <-fetched:
		if r.Err != nil {
			return "", fmt.Errorf("fetching uv: %w", r.Err)
		}
		return path, nil
	}
}

func (s *Store) fetchUV(ctx context.Context, path string) error {
	hash, ok := uvWheels[runtime.GOARCH]
	if !ok {
		return warpket.Errorf(warpket.Unavailable, "there is no pinned uv for %s; set WARPKET_UV to the path of one", runtime.GOARCH)
	}
	project, err := s.config.Index.Project(ctx, "uv")
	if err != nil {
		return err
	}
	for _, file := range project.Files {
		if file.SHA256 != hash {
			continue
		}
		wheel, err := s.config.Index.Download(ctx, file)
		if err != nil {
			return err
		}
		return unpackUV(wheel, path)
	}
	return warpket.Errorf(warpket.Unavailable, "the package index does not have the pinned uv %s; set WARPKET_UV to the path of one", uvVersion)
}

// unpackUV takes the one program that is wanted out of a wheel.
func unpackUV(wheel []byte, path string) error {
	archive, err := zip.NewReader(bytes.NewReader(wheel), int64(len(wheel)))
	if err != nil {
		return fmt.Errorf("opening the wheel: %w", err)
	}
	for _, f := range archive.File {
		if strings.HasSuffix(f.Name, ".data/scripts/uv") {
			return unpack(f, path)
		}
	}
	return warpket.Errorf(warpket.Internal, "the wheel of uv has no program in it")
}

// unpack writes a file of an archive, all of it or nothing.
func unpack(f *zip.File, path string) error {
	in, err := f.Open()
	if err != nil {
		return fmt.Errorf("opening %s: %w", f.Name, err)
	}
	defer func() { _ = in.Close() }()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	program, err := io.ReadAll(io.LimitReader(in, maxUV))
	if err != nil {
		return fmt.Errorf("reading %s: %w", f.Name, err)
	}
	temp := path + "." + string(warpket.NewID(time.Now())) // agents may share the folder
	defer func() { _ = os.Remove(temp) }()
	if err := writeProgram(temp, program); err != nil {
		return fmt.Errorf("writing %s: %w", f.Name, err)
	}
	return os.Rename(temp, path)
}

// writeProgram writes a file that is to be executed. No process may be forked
// while it is open for writing: the fork would hold it open for a moment
// longer, in which it cannot be executed (ETXTBSY).
func writeProgram(path string, content []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, content, 0o755) //nolint:gosec // a program
}

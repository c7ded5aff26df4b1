package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// The folder of the store has, for each image by its digest:
//
//	sha256/{digest}/rootfs       its files
//	sha256/{digest}/image.json   what else is known of it; its time is that of its last use
//	sha256/{digest}/granted/     who may use it
//	locks/{digest}               held shared by who uses it, alone by who makes or removes it
//	tmp/{digest}                 one that is being made or removed

func (s *Store) path(digest v1.Hash) string {
	return filepath.Join(s.config.Dir, "sha256", digest.Hex)
}

func (s *Store) tmp(digest v1.Hash) string { return filepath.Join(s.config.Dir, "tmp", digest.Hex) }

func (s *Store) has(digest v1.Hash) bool {
	_, err := os.Stat(s.path(digest))
	return err == nil
}

// lock takes the lock of an image, which is given up when the file is closed,
// or with the agent however it ends. It calls wait if others hold it.
func (s *Store) lock(ctx context.Context, digest v1.Hash, alone bool, wait func()) (*os.File, error) {
	path := filepath.Join(s.config.Dir, "locks", digest.Hex)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	how := unix.LOCK_SH
	if alone {
		how = unix.LOCK_EX
	}
	err = unix.Flock(int(file.Fd()), how|unix.LOCK_NB)
	if err == nil {
		return file, nil
	}
	if wait == nil || !errors.Is(err, unix.EWOULDBLOCK) {
		_ = file.Close()
		return nil, err
	}
	wait()
	locked := make(chan error, 1)
	go func() { locked <- unix.Flock(int(file.Fd()), how) }()
	select {
	case err := <-locked:
		if err != nil {
			_ = file.Close()
			return nil, err
		}
		return file, nil
	case <-ctx.Done():
		go func() { // the lock is got some time, and is given back at once
			<-locked //nolint:errcheck // there is nobody left to tell
			_ = file.Close()
		}()
		return nil, ctx.Err()
	}
}

// use gives an image if it is there, and keeps it there.
func (s *Store) use(ctx context.Context, digest v1.Hash, wait func()) (*Image, error) {
	lock, err := s.lock(ctx, digest, false, wait)
	if err != nil {
		return nil, fmt.Errorf("waiting for image %s: %w", digest, err)
	}
	path := filepath.Join(s.path(digest), "image.json")
	text, err := os.ReadFile(path)
	if err != nil {
		_ = lock.Close()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil //nolint:nilnil // there is none, and none is an answer
		}
		return nil, fmt.Errorf("reading image %s: %w", digest, err)
	}
	image := Image{Root: filepath.Join(s.path(digest), "rootfs"), lock: lock}
	if err := json.Unmarshal(text, &image); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("reading image %s: %w", digest, err)
	}
	if err := os.Chtimes(path, time.Time{}, s.config.Clock()); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("using image %s: %w", digest, err)
	}
	return &image, nil
}

// keep puts an image that is complete where it is found.
func (s *Store) keep(tmp string, digest v1.Hash) error {
	dir, err := os.Open(tmp)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	if err := unix.Syncfs(int(dir.Fd())); err != nil { // one call for all of its files
		return err
	}
	path := s.path(digest)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = parent.Close() }()
	return parent.Sync()
}

// grant notes that a project may read an image of a repository.
func grant(dir string, ref name.Digest, project string) error {
	granted := filepath.Join(dir, "granted")
	if err := os.MkdirAll(granted, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(granted, grantee(ref, project)), nil, 0o600)
}

func grantee(ref name.Digest, project string) string {
	sum := sha256.Sum256([]byte(project + "\n" + ref.Context().Name()))
	return hex.EncodeToString(sum[:])
}

// admit makes sure that a project may read an image that is there: a project
// that has not pulled it asks the registry.
func (s *Store) admit(ctx context.Context, ref name.Digest, digest v1.Hash, request Request) error {
	dir := s.path(digest)
	if _, err := os.Stat(filepath.Join(dir, "granted", grantee(ref, request.Project))); err == nil {
		return nil
	}
	if _, err := s.image(ctx, ref, request.Auth); err != nil {
		return err
	}
	if err := grant(dir, ref, request.Project); err != nil {
		return fmt.Errorf("noting who may use image %s: %w", digest, err)
	}
	return nil
}

// evict removes images until the store is within its bound, those first that
// nobody has used for longest, and none that is in use.
func (s *Store) evict(ctx context.Context) error {
	if s.config.Limits.Store <= 0 {
		return nil
	}
	type kept struct {
		digest v1.Hash
		size   int64
		used   time.Time
	}
	var images []kept
	var total int64
	entries, err := os.ReadDir(filepath.Join(s.config.Dir, "sha256"))
	if err != nil {
		return fmt.Errorf("looking for images to remove: %w", err)
	}
	for _, entry := range entries {
		digest := v1.Hash{Algorithm: "sha256", Hex: entry.Name()}
		path := filepath.Join(s.path(digest), "image.json")
		info, err := os.Stat(path)
		if err != nil {
			continue // another agent has just removed it
		}
		var image Image
		if text, err := os.ReadFile(path); err != nil || json.Unmarshal(text, &image) != nil {
			continue
		}
		images = append(images, kept{digest, image.Size, info.ModTime()})
		total += image.Size
	}
	slices.SortFunc(images, func(a, b kept) int { return a.used.Compare(b.used) })
	for _, image := range images {
		if total <= s.config.Limits.Store {
			break
		}
		removed, err := s.remove(ctx, image.digest)
		if err != nil {
			return fmt.Errorf("removing image %s: %w", image.digest, err)
		}
		if removed {
			total -= image.size
		}
	}
	return nil
}

// remove removes an image unless it is in use.
func (s *Store) remove(ctx context.Context, digest v1.Hash) (bool, error) {
	lock, err := s.lock(ctx, digest, true, nil)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = lock.Close() }()
	// It is gone at once, even if the agent is killed in the middle.
	err = os.Rename(s.path(digest), s.tmp(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // by another agent
	}
	if err != nil {
		return false, err
	}
	return true, os.RemoveAll(s.tmp(digest))
}

// sweep removes what agents that were killed have left half done.
func (s *Store) sweep() error {
	parent := filepath.Join(s.config.Dir, "tmp")
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return fmt.Errorf("making the folder of images: %w", err)
	}
	entries, err := os.ReadDir(parent)
	if err != nil {
		return fmt.Errorf("looking for unfinished images: %w", err)
	}
	for _, entry := range entries {
		lock, err := s.lock(context.Background(), v1.Hash{Hex: entry.Name()}, true, nil)
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue // another agent is at it
		}
		if err != nil {
			return fmt.Errorf("removing an unfinished image: %w", err)
		}
		err = os.RemoveAll(filepath.Join(parent, entry.Name()))
		_ = lock.Close()
		if err != nil {
			return fmt.Errorf("removing an unfinished image: %w", err)
		}
	}
	return nil
}

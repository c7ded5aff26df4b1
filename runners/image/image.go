// Package image keeps the images of functions that come as one: it finds out
// what a reference stands for, pulls that, and unpacks it once for all who
// ask. Images, and the registries that serve them, are strangers'.
package image

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/egress"
)

// Config says what a store works with.
type Config struct {
	Dir      string       // of the store; may be shared by agents of one machine
	Platform string       // of this machine, such as "linux/amd64"
	Guard    egress.Guard // which registries may be asked
	Upstream *url.URL     // the proxy by which this machine reaches the network, if it needs one
	Limits   Limits
	Clock    func() time.Time // nil: time.Now
}

// Limits bound images. What is zero has a default.
type Limits struct {
	Bytes int64 // of one image, unpacked; default 20 GiB
	Files int   // of one image; default 500,000
	Store int64 // bytes of all images; those not in use for longest are removed above it; zero: no bound
}

// Store keeps the images of a node.
type Store struct{ *Registries }

// Image is an unpacked image, which stays as it is until it is released.
type Image struct {
	Digest     string // of its manifest: "sha256:..."
	Root       string `json:"-"` // folder with its files; nothing in it may be changed
	Entrypoint []string
	Cmd        []string
	Env        []string
	WorkingDir string
	Size       int64 // of its files

	lock *os.File
}

// Release lets go of the image: it may be removed when space is needed.
func (i *Image) Release() { _ = i.lock.Close() }

// Argv is what runs in the image: a command, or else the image's own.
func (i *Image) Argv(command []string) []string {
	if len(command) > 0 {
		return command
	}
	return slices.Concat(i.Entrypoint, i.Cmd)
}

// Auth is what a registry asks for.
type Auth = warpket.RegistryAuth

// Request says which image is wanted, and by whom.
type Request struct {
	Ref     string // as Resolve has returned it
	Project string // whoever asks: what one project may read of a registry, another may not
	Auth    Auth
}

// New makes a store, and removes what a killed agent may have left half done.
func New(config Config) (*Store, error) {
	dir, err := filepath.Abs(config.Dir)
	if err != nil {
		return nil, fmt.Errorf("finding the folder of images: %w", err)
	}
	config.Dir = dir
	if config.Clock == nil {
		config.Clock = time.Now
	}
	registries, err := NewRegistries(config)
	if err != nil {
		return nil, err
	}
	s := &Store{registries}
	return s, s.sweep()
}

// pullTimeout ends a pull from a registry that sends a byte now and then.
const pullTimeout = 30 * time.Minute

// Pull gives the image of a reference that Resolve has returned. It is pulled
// and unpacked unless it is there, once for all who ask at the same time. The
// registry is asked at least once per project, so that nobody gets by its
// digest alone what they may not read.
func (s *Store) Pull(ctx context.Context, request Request, progress func(string)) (*Image, error) {
	if progress == nil {
		progress = func(string) {}
	}
	ref, err := name.NewDigest(request.Ref)
	if err != nil {
		return nil, warpket.Errorf(warpket.Invalid, "%q is not an image with its digest, as in registry.example/name@sha256:...", request.Ref)
	}
	digest, err := v1.NewHash(ref.DigestStr())
	if err != nil || digest.Algorithm != "sha256" {
		return nil, warpket.Errorf(warpket.Invalid, "%q has no SHA-256 digest", request.Ref)
	}
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	wait := func() { progress("waiting for another pull of this image") }
	for {
		image, err := s.use(ctx, digest, wait)
		if err != nil {
			return nil, err
		}
		if image != nil {
			if err := s.admit(ctx, ref, digest, request); err != nil {
				image.Release()
				return nil, err
			}
			return image, nil
		}
		if err := s.add(ctx, ref, digest, request, progress, wait); err != nil {
			return nil, err
		}
	}
}

// add pulls an image unless someone else has done so meanwhile.
func (s *Store) add(ctx context.Context, ref name.Digest, digest v1.Hash, request Request, progress func(string), wait func()) error {
	lock, err := s.lock(ctx, digest, true, wait)
	if err != nil {
		return fmt.Errorf("waiting for image %s: %w", digest, err)
	}
	defer func() { _ = lock.Close() }()
	if s.has(digest) {
		return nil
	}
	remote, err := s.image(ctx, ref, request.Auth)
	if err != nil {
		return err
	}
	tmp := s.tmp(digest)
	if err := os.RemoveAll(tmp); err != nil { // a killed agent's
		return fmt.Errorf("making room for image %s: %w", digest, err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if err := s.unpack(ctx, remote, tmp, request.Auth, progress); err != nil {
		return err
	}
	if err := grant(tmp, ref, request.Project); err != nil {
		return fmt.Errorf("keeping image %s: %w", digest, err)
	}
	if err := s.keep(tmp, digest); err != nil {
		return fmt.Errorf("keeping image %s: %w", digest, err)
	}
	return s.evict(ctx)
}

package secrets

import (
	"context"

	"github.com/warpket/warpket"
)

// Records keep the wrapped keys of projects.
type Records interface {
	// ProjectKey gives a project's wrapped key, adding the one that first
	// makes if there is none.
	ProjectKey(ctx context.Context, project warpket.ID, first func() ([]byte, error)) ([]byte, error)
	// RewrapProjectKey replaces a wrapped key, if it still is the old one.
	RewrapProjectKey(ctx context.Context, project warpket.ID, old, wrapped []byte) error
}

// Vault encrypts and decrypts for projects.
type Vault struct {
	ring    Keyring
	records Records
}

// New makes a Vault.
func New(ring Keyring, records Records) *Vault { return &Vault{ring: ring, records: records} }

// Ready reports what to do when there is no key.
func (v *Vault) Ready() error { return v.ring.Ready() }

// Key gives the key of a project, making it when there is none. A key that an
// earlier key of the operator had wrapped is wrapped anew.
func (v *Vault) Key(ctx context.Context, project warpket.ID) (Key, error) {
	if err := v.Ready(); err != nil {
		return Key{}, err
	}
	wrapped, err := v.records.ProjectKey(ctx, project, func() ([]byte, error) { return v.ring.NewProjectKey(project) })
	if err != nil {
		return Key{}, err
	}
	key, rewrapped, err := v.ring.Unwrap(project, wrapped)
	if err == nil && rewrapped != nil {
		err = v.records.RewrapProjectKey(ctx, project, wrapped, rewrapped)
	}
	return key, err
}

// Seal encrypts the value of a project's secret.
func (v *Vault) Seal(ctx context.Context, project warpket.ID, name, value string) ([]byte, error) {
	key, err := v.Key(ctx, project)
	if err != nil {
		return nil, err
	}
	return key.Seal(name, value), nil
}

// RegistryAuth opens a project's secret that is for a registry, or for a Git
// host.
func (v *Vault) RegistryAuth(ctx context.Context, project warpket.ID, name string, sealed []byte) (warpket.RegistryAuth, error) {
	value, err := v.open(ctx, project, name, sealed)
	if err != nil {
		return warpket.RegistryAuth{}, err
	}
	auth, err := warpket.ParseRegistryAuth(value)
	if err != nil {
		return auth, warpket.Errorf(warpket.Invalid, "the secret %s is not for a registry or a Git host: its value is to be %s", name, warpket.RegistryAuthForm).At("credentials")
	}
	return auth, nil
}

// ObjectAuth opens a project's secret that is for an object store.
func (v *Vault) ObjectAuth(ctx context.Context, project warpket.ID, name string, sealed []byte) (warpket.ObjectAuth, error) {
	value, err := v.open(ctx, project, name, sealed)
	if err != nil {
		return warpket.ObjectAuth{}, err
	}
	auth, err := warpket.ParseObjectAuth(value)
	if err != nil {
		return auth, warpket.Errorf(warpket.Invalid, "the secret %s is not for an object store: its value is to be %s", name, warpket.ObjectAuthForm).At("object.credentials")
	}
	return auth, nil
}

func (v *Vault) open(ctx context.Context, project warpket.ID, name string, sealed []byte) (string, error) {
	key, err := v.Key(ctx, project)
	if err != nil {
		return "", err
	}
	return key.Open(name, sealed)
}

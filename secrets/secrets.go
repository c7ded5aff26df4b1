// Package secrets encrypts what projects keep secret. Each project has a key of
// its own, which is kept wrapped by the operator's key; the operator's key is
// configuration and never in the database. All encryption is AES-256-GCM, and
// each ciphertext is bound to the project and name that it belongs to, so that
// one that is moved to another place does not open.
package secrets

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"strings"

	"github.com/warpket/warpket"
)

const keySize = 32

// Keyring holds the operator's keys: the first wraps, all of them unwrap. The
// zero Keyring holds none.
type Keyring struct {
	keys []cipher.AEAD
}

// ParseKeyring reads keys, each 32 bytes in base64, with commas or white space
// between them. No text is no keys. The error does not tell the text.
func ParseKeyring(text string) (Keyring, error) {
	var ring Keyring
	for i, field := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\r' || r == '\t' }) {
		b, err := base64.StdEncoding.DecodeString(field)
		if err != nil || len(b) != keySize {
			return Keyring{}, warpket.Errorf(warpket.Invalid, "secret key number %d is not 32 bytes in base64: make one with \"openssl rand -base64 32\"", i+1)
		}
		ring.keys = append(ring.keys, newAEAD(b))
	}
	return ring, nil
}

// NewOperatorKey makes a key as ParseKeyring reads it.
func NewOperatorKey() string { return base64.StdEncoding.EncodeToString(newKey()) }

// Ready reports what to do when there is no key.
func (r Keyring) Ready() error {
	if len(r.keys) == 0 {
		return warpket.Errorf(warpket.Unavailable, "this server has no key for secrets: its operator sets WARPKET_SECRET_KEY, or WARPKET_SECRET_KEY_FILE, to 32 random bytes in base64 (\"openssl rand -base64 32\"), the same on all servers")
	}
	return nil
}

// NewProjectKey makes the key of a project, wrapped.
func (r Keyring) NewProjectKey(project warpket.ID) (wrapped []byte, err error) {
	if err := r.Ready(); err != nil {
		return nil, err
	}
	return r.wrap(project, newKey()), nil
}

func (r Keyring) wrap(project warpket.ID, key []byte) []byte {
	return r.keys[0].Seal(nil, nil, key, []byte("project key\x00"+string(project))) //nolint:gosec // the nonce is random, see newAEAD
}

// Unwrap opens a project's key. When another than the first of the operator's
// keys had wrapped it, rewrapped is what to keep instead; else it is nil.
func (r Keyring) Unwrap(project warpket.ID, wrapped []byte) (key Key, rewrapped []byte, err error) {
	if err := r.Ready(); err != nil {
		return Key{}, nil, err
	}
	for i, operator := range r.keys {
		b, err := operator.Open(nil, nil, wrapped, []byte("project key\x00"+string(project)))
		if err != nil {
			continue
		}
		if i > 0 {
			rewrapped = r.wrap(project, b)
		}
		return Key{project, newAEAD(b)}, rewrapped, nil
	}
	return Key{}, nil, warpket.Errorf(warpket.Unavailable, "none of this server's keys for secrets opens the key of project %s: its operator adds the key that was in force when it was made to WARPKET_SECRET_KEY, after the new one", project)
}

// Key is a project's key.
type Key struct {
	project warpket.ID
	aead    cipher.AEAD
}

// Seal encrypts the value of a name.
func (k Key) Seal(name, value string) []byte {
	return k.aead.Seal(nil, nil, []byte(value), k.place(name)) //nolint:gosec // the nonce is random, see newAEAD
}

// Open decrypts what Seal has made for the same project and name.
func (k Key) Open(name string, sealed []byte) (string, error) {
	b, err := k.aead.Open(nil, nil, sealed, k.place(name))
	if err != nil {
		return "", warpket.Errorf(warpket.Internal, "the secret %s of project %s does not open: it was changed or moved behind our back", name, k.project)
	}
	return string(b), nil
}

// place names where a ciphertext belongs. Neither part can hold a NUL.
func (k Key) place(name string) []byte {
	return []byte("secret\x00" + string(k.project) + "\x00" + name)
}

func newKey() []byte {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails, see crypto/rand
	return key
}

// newAEAD panics for no key of this package: they all have the right size.
func newAEAD(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

package warpket

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
)

// Image is what a version runs that comes as an OCI image, or the system in
// which its files run.
type Image struct {
	Reference string   // as it was given: "registry.example/bell:1"
	Pinned    string   // with the digest that it stood for then: "registry.example/bell@sha256:..."
	Command   []string // the program and its arguments; empty for those of the image
}

// Digest is that of the image's manifest: "sha256:...".
func (i Image) Digest() string {
	_, digest, _ := strings.Cut(i.Pinned, "@")
	return digest
}

// SameRepository reports whether a reference names an image of the repository
// that this one is of: another tag or digest at most.
func (i Image) SameRepository(reference string) bool {
	return repositoryOf(i.Reference) == repositoryOf(reference)
}

// repositoryOf is a reference without its tag and digest.
func repositoryOf(reference string) string {
	reference, _, _ = strings.Cut(reference, "@")
	if colon := strings.LastIndex(reference, ":"); colon > strings.LastIndex(reference, "/") {
		return reference[:colon]
	}
	return reference
}

// SnapshotDigest is one digest over all that decides a result, as for files.
// Where the image is kept decides nothing.
func (i Image) SnapshotDigest(runtimeKey string) string {
	command := i.Command
	if len(command) == 0 {
		command = nil
	}
	b, _ := json.Marshal(struct {
		Image   string
		Command []string
		Runtime string
	}{i.Digest(), command, runtimeKey}) // strings only: cannot fail
	return SHA256(b)
}

// MaxCommand is how many bytes a command may have.
const MaxCommand = 64 << 10

// CheckCommand checks a command that is to run in an image.
func CheckCommand(command []string) error {
	size := 0
	for i, argument := range command {
		if strings.ContainsRune(argument, 0) {
			return Errorf(Invalid, "an argument cannot have a NUL character").At("command[%d]", i)
		}
		size += len(argument) + 1
	}
	if len(command) > 0 && command[0] == "" {
		return Errorf(Invalid, "the command begins with the name or path of a program; leave command out to run the image's own").At("command[0]")
	}
	if size > MaxCommand {
		return Errorf(TooLarge, "the command has %d bytes; at most %d (64 KiB) are allowed", size, MaxCommand).At("command")
	}
	return nil
}

// imageSDK is what runtimes of images have in the place of an SDK. No package
// can have that name.
const imageSDK = "container image"

// ImageRuntime is the runtime of versions that come as an image: they bring
// everything but the platform.
func ImageRuntime(platform string) RuntimeKey {
	return RuntimeKey{SDK: imageSDK, Platform: platform}
}

// OfImages reports whether the runtime is that of images, which is not built.
func (k RuntimeKey) OfImages() bool { return k.SDK == imageSDK }

// RegistryAuth is what a registry asks for: a user and a password, or a token
// in their place. It prints as nothing.
type RegistryAuth struct {
	User, Password string
	Token          string
}

// String keeps secrets out of texts.
func (RegistryAuth) String() string { return "(secret)" }

// GoString keeps secrets out of texts.
func (a RegistryAuth) GoString() string { return a.String() }

// MarshalText keeps secrets out of logs.
func (a RegistryAuth) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// RegistryAuthForm is how the value of a secret looks that is for a registry.
const RegistryAuthForm = `the JSON {"username": "...", "password": "..."} or {"token": "..."}`

// ParseRegistryAuth reads the value of a secret that is for a registry. The
// error does not tell the value.
func ParseRegistryAuth(value string) (RegistryAuth, error) {
	var in struct {
		Username string `json:"username"`
		Password string `json:"password"`
		Token    string `json:"token"`
	}
	d := json.NewDecoder(bytes.NewReader([]byte(value)))
	d.DisallowUnknownFields()
	err := d.Decode(&in)
	_, more := d.Token()
	pair, token := in.Username != "" && in.Password != "", in.Token != ""
	if err != nil || more != io.EOF || pair == token || token && in.Username+in.Password != "" {
		return RegistryAuth{}, Errorf(Invalid, "what a registry asks for is given as %s", RegistryAuthForm)
	}
	return RegistryAuth{User: in.Username, Password: in.Password, Token: in.Token}, nil
}

package image

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/warpket/warpket"
)

// Registries asks registries what there is. It pulls nothing.
type Registries struct {
	config    Config
	platform  v1.Platform
	transport http.RoundTripper
}

// NewRegistries makes one for a platform; the folder and the clock of config
// do not matter.
func NewRegistries(config Config) (*Registries, error) {
	system, architecture, ok := strings.Cut(config.Platform, "/")
	if !ok {
		return nil, warpket.Errorf(warpket.Invalid, "the platform %q is not of the form linux/amd64", config.Platform)
	}
	if config.Limits.Bytes <= 0 {
		config.Limits.Bytes = 20 << 30
	}
	if config.Limits.Files <= 0 {
		config.Limits.Files = 500_000
	}
	return &Registries{
		config: config, platform: v1.Platform{OS: system, Architecture: architecture}, transport: config.Guard.Transport(config.Upstream),
	}, nil
}

// Resolve finds out which image a reference, such as
// "registry.example/name:tag", stands for now on the platform. It
// returns the reference with that image's digest.
func (r *Registries) Resolve(ctx context.Context, text string, auth Auth) (string, error) {
	ref, err := name.ParseReference(text)
	if err != nil {
		return "", warpket.Errorf(warpket.Invalid, "%q is not the reference of an image, as in registry.example/name:tag", text)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	found, err := remote.Get(ref, r.options(ctx, auth)...)
	if err != nil {
		return "", explain(err, ref, auth)
	}
	if !found.MediaType.IsIndex() {
		digest := ref.Context().Digest(found.Digest.String())
		_, err := r.image(ctx, digest, auth)
		return digest.Name(), err
	}
	index, err := found.ImageIndex()
	if err != nil {
		return "", explain(err, ref, auth)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return "", explain(err, ref, auth)
	}
	var others []string
	for _, child := range manifest.Manifests {
		if !child.MediaType.IsImage() || child.Platform == nil {
			continue
		}
		if child.Platform.Satisfies(r.platform) {
			digest := ref.Context().Digest(child.Digest.String())
			_, err := r.image(ctx, digest, auth)
			return digest.Name(), err
		}
		if len(others) < 20 && child.Platform.OS != "unknown" { // attestations
			others = append(others, fmt.Sprintf("%q", child.Platform.String()))
		}
	}
	slices.Sort(others)
	return "", warpket.Errorf(warpket.Invalid, "%s has no image for %s; it has some for: %s", ref, r.platform, strings.Join(slices.Compact(others), ", "))
}

const maxConfig = 4 << 20

// image looks at an image without pulling its files, and refuses what is none
// of this node's.
func (r *Registries) image(ctx context.Context, ref name.Digest, auth Auth) (v1.Image, error) {
	found, err := remote.Get(ref, r.options(ctx, auth)...)
	if err != nil {
		return nil, explain(err, ref, auth)
	}
	if !found.MediaType.IsImage() {
		return nil, warpket.Errorf(warpket.Invalid, "%s is not an image of one platform but %q", ref, found.MediaType)
	}
	image, err := found.Image()
	if err != nil {
		return nil, explain(err, ref, auth)
	}
	manifest, err := image.Manifest()
	if err != nil {
		return nil, warpket.Because(warpket.Invalid, err, "the manifest of %s cannot be read", ref)
	}
	var packed int64
	for _, layer := range manifest.Layers {
		packed += max(layer.Size, 0)
		if layer.Size < 0 || packed > r.config.Limits.Bytes {
			return nil, r.tooLarge()
		}
	}
	if manifest.Config.Size > maxConfig {
		return nil, warpket.Errorf(warpket.TooLarge, "the configuration of %s has %d bytes; at most %d are allowed", ref, manifest.Config.Size, maxConfig)
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, explain(err, ref, auth)
	}
	if config.OS != r.platform.OS || config.Architecture != r.platform.Architecture {
		return nil, warpket.Errorf(warpket.Invalid, "%s is for %q, and this node is %s", ref, config.OS+"/"+config.Architecture, r.platform)
	}
	return image, nil
}

func (r *Registries) options(ctx context.Context, auth Auth) []remote.Option {
	authenticator := authn.Anonymous
	switch {
	case auth.Token != "":
		authenticator = &authn.Bearer{Token: auth.Token}
	case auth.User != "" || auth.Password != "":
		authenticator = &authn.Basic{Username: auth.User, Password: auth.Password}
	}
	return []remote.Option{
		remote.WithContext(ctx),
		remote.WithAuth(authenticator),
		remote.WithTransport(r.transport),
		remote.WithPlatform(r.platform),
	}
}

// explain gives an error of a registry its kind. What the registry has said
// is not repeated: it may say what it was told in confidence.
func explain(err error, ref name.Reference, auth Auth) error {
	registry := ref.Context().RegistryStr()
	if known, ok := errors.AsType[*warpket.Error](err); ok {
		return fmt.Errorf("asking registry %s: %w", registry, known)
	}
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	if answer, ok := errors.AsType[*transport.Error](err); ok {
		switch answer.StatusCode {
		case http.StatusNotFound:
			return warpket.Errorf(warpket.NotFound, "registry %s has no %s, or none that may be read with what was given", registry, ref)
		case http.StatusUnauthorized, http.StatusForbidden:
			return warpket.Errorf(warpket.Denied, "registry %s does not let %s be read: give it a user and password, or a token, that may", registry, ref)
		case http.StatusTooManyRequests:
			return warpket.Errorf(warpket.Unavailable, "registry %s wants fewer requests (429): try again later, or give it a user and password", registry)
		}
		return warpket.Errorf(warpket.Unavailable, "registry %s answered %d for %s", registry, answer.StatusCode, ref)
	}
	reason := "its answer cannot be used"
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		reason = "there is no such host"
	} else if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		reason = "it did not answer in time"
	} else if errno, ok := errors.AsType[syscall.Errno](err); ok {
		reason = errno.Error()
	} else if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		reason = "its certificate is signed by nobody that this node knows"
	}
	return warpket.Because(warpket.Unavailable, errors.New(scrub(auth, err.Error())), "registry %s did not give %s: %s", registry, ref, reason)
}

// scrub takes out of a text for the log what was given in confidence.
func scrub(a Auth, text string) string {
	text, _, _ = strings.Cut(text, "\n") // bodies of answers follow
	for _, secret := range []string{a.Password, a.Token, base64.StdEncoding.EncodeToString([]byte(a.User + ":" + a.Password))} {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "(secret)")
		}
	}
	return text
}

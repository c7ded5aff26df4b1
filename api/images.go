package api

import (
	"context"
	"errors"

	"github.com/warpket/warpket"
)

// ImageSource is what a version runs that comes as an image. It is exported
// for huma, which reads no other embedded fields.
type ImageSource struct {
	Image   string   `json:"image,omitempty" maxLength:"512" doc:"Reference of an OCI image. What a tag stands for is looked up when the version is published, and holds for it from then on" example:"registry.example/bell:1"`
	Command []string `json:"command,omitempty" nullable:"false" maxItems:"256" doc:"Program and arguments that run in the image, in place of its ENTRYPOINT and CMD; not carried over from the version before"`
}

// refuse says that an image is not for a function of files.
func (i ImageSource) refuse() error {
	const message = "this function is made of files; one that comes as an image is created with \"source\": \"image\""
	if i.Image != "" {
		return warpket.Errorf(warpket.Invalid, message).At("image")
	}
	if len(i.Command) > 0 {
		return warpket.Errorf(warpket.Invalid, message).At("command")
	}
	return nil
}

// newImageFunction is newFunction for one that comes as an image.
func (s *Server) newImageFunction(ctx context.Context, b CreateFunctionRequest) (f warpket.Function, v warpket.Version, err error) {
	for field, set := range map[string]bool{"templateLanguageTag": b.TemplateLanguageTag != "", "sdkVersion": b.SDKVersion != "", "runtimeId": b.RuntimeID != "", "templateFiles": len(b.TemplateFiles) > 0} {
		if set {
			return f, v, warpket.Errorf(warpket.Invalid, "an image brings its own code and SDK: leave %s out", field).At("%s", field)
		}
	}
	settings := warpket.NewSettings("")
	if err := b.apply(&settings, true); err != nil {
		return f, v, err
	}
	now := s.Now()
	f = warpket.Function{
		ID: s.newID(ctx), ProjectID: projectOf(ctx), Name: b.FunctionName, Description: b.Description, Settings: settings, CreatedDate: now, UpdatedDate: now, Label: b.Label,
	}
	v, err = s.imageVersion(ctx, f, "", b.ImageSource)
	return f, v, err
}

// imageVersion makes a version of what a reference stands for now. It is not in
// the database yet.
func (s *Server) imageVersion(ctx context.Context, f warpket.Function, description string, in ImageSource) (v warpket.Version, err error) {
	if in.Image == "" {
		return v, warpket.Errorf(warpket.Invalid, "image is missing: give the reference of one, as in registry.example/name:tag").At("image")
	}
	if err := warpket.CheckCommand(in.Command); err != nil {
		return v, err
	}
	if f.Settings.Credentials != "" && (f.Image == nil || !f.Image.SameRepository(in.Image)) {
		if err := mayBind(ctx, "image"); err != nil { // another registry would be shown them
			return v, err
		}
	}
	image := warpket.Image{Reference: in.Image, Command: in.Command}
	if image.Pinned, err = s.resolve(ctx, f.ProjectID, f.Settings.Credentials, in.Image); err != nil {
		return v, err
	}
	now := s.Now()
	runtime, err := s.Store.EnsureRuntime(ctx, warpket.Runtime{
		ID: warpket.NewID(now), RuntimeKey: warpket.ImageRuntime(s.Platform), CreatedDate: now,
	})
	if err != nil {
		return v, err
	}
	return warpket.Version{
		ID: s.newID(ctx), ProjectID: f.ProjectID, FunctionID: f.ID, Description: description, CreatedDate: now,
		Snapshot: warpket.Snapshot{
			ID: warpket.NewID(now), ProjectID: f.ProjectID, FunctionID: f.ID, RuntimeID: runtime.ID, Image: &image,
			Digest: image.SnapshotDigest(runtime.String()), CreatedDate: now,
		},
	}, nil
}

// unresolved is the error of a reference that cannot be looked up, whatever the
// reason: it is the request that has to change, or that can be sent again.
func unresolved(err error) error {
	e, ok := errors.AsType[*warpket.Error](err)
	if !ok || e.Kind == warpket.Internal {
		return err
	}
	return warpket.Because(warpket.Invalid, err, "%s", e.Message).At("image")
}

// resolve gives a reference with the digest that it stands for now. name is that
// of the project's secret which the registry is given; it may be empty.
func (s *Server) resolve(ctx context.Context, project warpket.ID, name, reference string) (string, error) {
	auth, err := s.credentials(ctx, project, name)
	if err != nil {
		return "", err
	}
	pinned, err := s.Images.Resolve(ctx, reference, auth)
	if err != nil {
		return "", unresolved(err)
	}
	return pinned, nil
}

// credentials are what a registry is given.
func (s *Server) credentials(ctx context.Context, project warpket.ID, name string) (auth warpket.RegistryAuth, err error) {
	if name == "" {
		return auth, nil
	}
	if err := s.hasSecret(ctx, project, name); err != nil {
		return auth, err
	}
	sealed, err := s.Store.SealedSecret(ctx, project, name)
	if err != nil {
		return auth, err
	}
	return s.Secrets.RegistryAuth(ctx, project, name, sealed)
}

// hasSecret refuses the name of a secret that the project has not.
func (s *Server) hasSecret(ctx context.Context, project warpket.ID, name string) error {
	_, err := s.Store.Secret(ctx, project, name)
	if warpket.KindOf(err) == warpket.NotFound {
		return warpket.Errorf(warpket.Invalid, "this project has no secret %.80q: create it first, with POST /v1/secrets", name).At("credentials")
	}
	return err
}

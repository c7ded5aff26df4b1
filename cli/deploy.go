package cli

import (
	"context"
	"encoding/base64"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/warpket/warpket"
	client "github.com/warpket/warpket/clients/go"
)

func (a *app) deployCommand() *cobra.Command {
	var how deployHow
	c := &cobra.Command{
		Use:   "deploy [DIR]",
		Short: "Publish what has changed in a folder and deploy it",
		Long: "Reads " + manifestName + ` in the folder, creates the function if there is none, publishes a version if the files differ from the newest one, deploys it and waits until it is ready. Then it detaches older deployments of the function.

Hidden files, __pycache__ and ` + manifestName + " are no part of a version.",
		Args: takes("[DIR]"),
	}
	c.Flags().IntVar(&how.slots, "slots", 1, "how many slots are kept ready")
	c.Flags().StringVar(&how.message, "message", "", "what is new in the version")
	c.Flags().BoolVar(&how.keepOld, "keep-old", false, "do not detach older deployments")
	c.RunE = func(c *cobra.Command, args []string) error {
		dir := "."
		if len(args) == 1 {
			dir = args[0]
		}
		how.scaled = c.Flags().Changed("slots")
		if how.slots < 1 || how.slots > warpket.MaxSlots {
			return &usageError{c.CommandPath(), fmt.Sprintf("--slots is between 1 and %d", warpket.MaxSlots)}
		}
		return a.deploy(c.Context(), dir, how)
	}
	return c
}

// deployHow is how a folder is deployed.
type deployHow struct {
	slots   int
	scaled  bool // slots were asked for, also of a deployment that is there
	message string
	keepOld bool
}

func (a *app) deploy(ctx context.Context, dir string, how deployHow) error {
	m, err := readManifest(dir)
	if err != nil {
		return err
	}
	files, err := localFiles(dir)
	if err != nil {
		return err
	}
	server, err := a.connect()
	if err != nil {
		return err
	}
	f, err := a.ensureFunction(ctx, server, m)
	if err != nil {
		return err
	}
	v, published, err := publish(ctx, server, f, files, how.message)
	if err != nil {
		return err
	}
	if published {
		a.note.printf("%s published version %d", a.note.paint(good, "✓"), v.Version)
	} else {
		a.note.printf("  version %d has these files", v.Version)
	}
	return a.deployVersion(ctx, server, f, v.Version, how)
}

// ensureFunction creates a function unless there is one, and sets what the
// manifest says of it.
func (a *app) ensureFunction(ctx context.Context, server *client.ClientWithResponses, m manifest) (client.Function, error) {
	r, err := server.ListFunctionsWithResponse(ctx, &client.ListFunctionsParams{Name: &m.Name})
	if err != nil {
		return client.Function{}, err
	}
	if len(r.JSON200.Items) == 0 {
		created, err := server.CreateFunctionWithResponse(ctx, nil, client.CreateFunctionRequest{
			FunctionName: m.Name, TemplateLanguageTag: m.Template, SDKVersion: m.SDKVersion, Description: m.Description, Entry: m.Entry,
		})
		if err != nil {
			return client.Function{}, err
		}
		f := created.JSON200
		a.note.printf("%s created function %s: %s %s", a.note.paint(good, "✓"), f.FunctionName, f.SDK, f.SDKVersion)
		return client.Function{FunctionID: f.FunctionID, FunctionName: f.FunctionName, Entry: f.FunctionVersion.Entry}, nil
	}
	f := r.JSON200.Items[0]
	switch {
	case f.TemplateLanguageTag != m.Template:
		return f, fixed(m.Name, "template", f.TemplateLanguageTag, m.Template)
	case m.SDKVersion != "" && f.SDKVersion != m.SDKVersion:
		return f, fixed(m.Name, "sdkVersion", f.SDKVersion, m.SDKVersion)
	}
	change := client.UpdateFunctionRequest{}
	if m.Entry != f.Entry {
		change.Entry = m.Entry
	}
	if m.Description != "" && m.Description != f.Description {
		change.Description = &m.Description
	}
	if change.Entry == "" && change.Description == nil {
		return f, nil
	}
	changed, err := server.UpdateFunctionWithResponse(ctx, f.FunctionID, nil, change)
	if err != nil {
		return f, err
	}
	return *changed.JSON200, nil
}

// fixed refuses to change what a function has for life.
func fixed(name, what, has, wants string) error {
	return &hinted{
		warpket.Errorf(warpket.Conflict, "%s of function %s is %s, %s says %s, and it cannot be changed: take another name, or delete the function", what, name, has, manifestName, wants),
		"warpket delete " + name,
	}
}

// publish publishes files as a version unless the newest one is the same.
func publish(ctx context.Context, server *client.ClientWithResponses, f client.Function, files []localFile, message string) (client.FunctionVersion, bool, error) {
	r, err := server.ListVersionsWithResponse(ctx, f.FunctionID, &client.ListVersionsParams{Limit: new(int64(1))})
	if err != nil {
		return client.FunctionVersion{}, false, err
	}
	known := map[string]client.VersionFile{} // by name
	var newest client.FunctionVersion
	if len(r.JSON200.Items) > 0 {
		newest = r.JSON200.Items[0]
	}
	for _, k := range newest.Files {
		known[k.Filename] = k
	}
	same := newest.Version > 0 && newest.Entry == f.Entry && len(known) == len(files)
	request := client.CreateVersionRequest{Description: message}
	for _, file := range files {
		k, ok := known[file.name]
		if ok && path.Base(k.Key) == warpket.SHA256(file.content) {
			request.TemplateFiles = append(request.TemplateFiles, client.SourceFile{Filename: file.name, FileID: k.ID})
			continue
		}
		same = false
		request.TemplateFiles = append(request.TemplateFiles, sourceFile(file))
	}
	if same {
		return newest, false, nil
	}
	created, err := server.CreateVersionWithResponse(ctx, f.FunctionID, nil, request)
	if err != nil {
		return client.FunctionVersion{}, false, err
	}
	return created.JSON200.Data, true, nil
}

func sourceFile(f localFile) client.SourceFile {
	out := client.SourceFile{Filename: f.name}
	if utf8.Valid(f.content) && !slices.Contains(f.content, 0) {
		out.Content = new(string(f.content))
	} else {
		out.ContentBase64 = new(base64.StdEncoding.EncodeToString(f.content))
	}
	return out
}

// deployVersion deploys a version unless it is deployed already, and waits
// until it is ready.
func (a *app) deployVersion(ctx context.Context, server *client.ClientWithResponses, f client.Function, version int64, how deployHow) error {
	before, err := liveDeployments(ctx, server, f.FunctionID)
	if err != nil {
		return err
	}
	for _, d := range before {
		if d.Version == version && serves(d) {
			return a.alreadyLive(ctx, server, d, how)
		}
	}
	d, err := a.startDeployment(ctx, server, f, version, how.slots, before)
	if err != nil {
		return err
	}
	p := a.note.progress(progressOf(d))
	d, err = awaitDeployment(ctx, server, d, p)
	took := p.end()
	if interrupted(ctx) {
		return &hinted{warpket.Because(warpket.Unavailable, ctx.Err(), "the deployment goes on without this command"), "warpket list deployments --function " + f.FunctionName}
	}
	if err != nil {
		return err
	}
	if !serves(d) {
		return a.deploymentFailed(ctx, server, d)
	}
	a.note.printf("%s version %d is ready: %s (%s)", a.note.paint(good, "✓"), version, places(d), duration(took))
	if !how.keepOld {
		if err := a.detach(ctx, server, before, d.ID); err != nil {
			return err
		}
	}
	if a.json {
		return a.printDeployment(ctx, server, d.ID)
	}
	a.finish(d)
	return nil
}

// alreadyLive leaves a deployment as it is, but for the slots that are asked for.
func (a *app) alreadyLive(ctx context.Context, server *client.ClientWithResponses, d client.Deployment, how deployHow) error {
	a.note.printf("%s version %d is live already", a.note.paint(good, "✓"), d.Version)
	if how.scaled && d.Slots != int64(how.slots) {
		p := a.note.progress("scaling to " + plural(how.slots, "slot"))
		_, err := server.ScaleDeploymentWithResponse(ctx, d.ID, &client.ScaleDeploymentParams{Prefer: new(nextHold)}, client.ScaleDeploymentRequest{Slots: int64(how.slots)})
		p.end()
		if err != nil {
			return err
		}
		r, err := server.GetDeploymentWithResponse(ctx, d.ID, nil)
		if err != nil {
			return err
		}
		d = *r.JSON200
		a.note.printf("  %s", progressOf(d))
	}
	if a.json {
		return a.printDeployment(ctx, server, d.ID)
	}
	a.finish(d)
	return nil
}

// startDeployment deploys a version, or finds the deployment that is on its way.
func (a *app) startDeployment(ctx context.Context, server *client.ClientWithResponses, f client.Function, version int64, slots int, before []client.Deployment) (client.Deployment, error) {
	for _, d := range before {
		if d.Version == version {
			return d, nil
		}
	}
	r, err := server.CreateDeploymentWithResponse(ctx, f.FunctionID, version, nil, client.CreateDeploymentRequest{Slots: new(int64(slots))})
	if err != nil {
		return client.Deployment{}, err
	}
	if r.JSON202 != nil {
		return *r.JSON202, nil
	}
	return *r.JSON200, nil
}

// glance is how long one look at a deployment is held: a change of its message
// alone does not end it.
const glance = "wait=1"

// awaitDeployment waits until a deployment is ready or has failed.
func awaitDeployment(ctx context.Context, server *client.ClientWithResponses, d client.Deployment, p *progress) (client.Deployment, error) {
	for {
		p.say(progressOf(d))
		if warpket.DeploymentStatus(d.Status).Settled() {
			return d, nil
		}
		r, err := server.GetDeploymentWithResponse(ctx, d.ID, &client.GetDeploymentParams{Prefer: new(glance)})
		if err != nil {
			return d, err
		}
		d = *r.JSON200
	}
}

func progressOf(d client.Deployment) string {
	if d.Message == "" {
		return string(d.Status)
	}
	return string(d.Status) + ": " + safe(d.Message)
}

// serves reports whether a deployment serves executions.
func serves(d client.Deployment) bool {
	return d.Status == client.DeploymentStatusReady || d.Status == client.DeploymentStatusDegraded && d.Ready > 0
}

// liveDeployments are a function's deployments that hold slots or are to.
func liveDeployments(ctx context.Context, server *client.ClientWithResponses, function string) ([]client.Deployment, error) {
	all, err := gather(0, func(cursor *string, limit *int64) ([]byte, error) {
		r, err := server.ListDeploymentsWithResponse(ctx, &client.ListDeploymentsParams{FunctionID: &function, Cursor: cursor, Limit: limit})
		if err != nil {
			return nil, err
		}
		return r.Body, nil
	})
	if err != nil {
		return nil, err
	}
	deployments, err := decode[client.Deployment](all.Items)
	return slices.DeleteFunc(deployments, func(d client.Deployment) bool { return warpket.DeploymentStatus(d.Status).Final() }), err
}

// detach detaches deployments, except one.
func (a *app) detach(ctx context.Context, server *client.ClientWithResponses, deployments []client.Deployment, except string) error {
	for _, d := range deployments {
		if d.ID == except {
			continue
		}
		if _, err := server.DetachDeploymentWithResponse(ctx, d.ID, nil); err != nil {
			return fmt.Errorf("detaching the deployment of version %d: %w", d.Version, err)
		}
		a.note.printf("%s detached version %d", a.note.paint(good, "✓"), d.Version)
	}
	return nil
}

func (a *app) deploymentFailed(ctx context.Context, server *client.ClientWithResponses, d client.Deployment) error {
	if a.json {
		if err := a.printDeployment(ctx, server, d.ID); err != nil {
			return err
		}
	} else if d.TemporalURL != "" {
		a.note.printf("  %s", d.TemporalURL)
	}
	return &deploymentError{d}
}

// printDeployment prints what the API says of a deployment.
func (a *app) printDeployment(ctx context.Context, server *client.ClientWithResponses, id string) error {
	r, err := server.GetDeploymentWithResponse(ctx, id, nil)
	if err != nil {
		return err
	}
	return a.print(r.Body)
}

// finish says where a deployment can be watched, and what to do next.
func (a *app) finish(d client.Deployment) {
	if d.TemporalURL != "" {
		a.note.printf("  %s", d.TemporalURL)
	}
	a.next("warpket run " + d.FunctionName)
}

// places says where the slots of a deployment are.
func places(d client.Deployment) string {
	on := map[string]int{}
	var nodes []string
	for _, s := range d.Placement.Slots {
		if on[s.Node]++; on[s.Node] == 1 {
			nodes = append(nodes, s.Node)
		}
	}
	out := plural(int(d.Ready), "slot")
	if len(nodes) > 0 {
		out += " on " + strings.Join(nodes, ", ")
	}
	return out
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

package api

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/git"
)

// Bounds of Git's requests.
const (
	maxPushes   = 4       // that are read at a time: each may take some hundred MiB
	maxTalk     = 4 << 20 // bytes of what a fetch says that it has
	maxDrain    = 512 << 20
	pushTime    = 5 * time.Minute // to send a push
	runtimeWait = 5 * time.Minute // that a pusher is told about the building of a runtime
)

// addGit serves each function as a Git repository. Git's protocol is described
// by Git, not by our documents.
func (s *Server) addGit() {
	s.mux.HandleFunc("GET /git/{repository}/info/refs", s.gitRefs)
	s.mux.HandleFunc("POST /git/{repository}/"+git.UploadPack, s.gitFetch)
	s.mux.HandleFunc("POST /git/{repository}/"+git.ReceivePack, s.gitPush)
}

// withGitToken lets git send a token the way it can: as the password, with any
// user, or as the user without a password.
func withGitToken(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); ok && strings.HasPrefix(r.URL.Path, "/git/") {
			r = r.Clone(r.Context())
			r.Header.Set("Authorization", "Bearer "+cmp.Or(password, user))
		}
		next.ServeHTTP(w, r)
	})
}

// gitRefuse answers in a way that git shows to people.
func (s *Server) gitRefuse(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	if p.Status >= http.StatusInternalServerError && r.Context().Err() == nil {
		s.Log.ErrorContext(r.Context(), "request failed", "operation", "git", "error", err)
	}
	maps.Copy(w.Header(), p.GetHeaders())
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="warpket: any user, and a token as the password"`)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(p.Status)
	_, _ = io.WriteString(w, p.Detail+"\n") // the client may have gone
}

// gitRepository finds the repository that a request is for, and what the caller
// may do there.
func (s *Server) gitRepository(r *http.Request, service string) (f warpket.Function, repository *git.Repository, err error) {
	scope := Read
	if service == git.ReceivePack {
		scope = Write
	}
	id := strings.TrimSuffix(r.PathValue("repository"), ".git")
	if err := permit(r.Context(), scope); err != nil {
		if service == git.ReceivePack {
			s.denied(r.Context(), pushVersion, plain(id, 300), err)
		}
		return f, nil, err
	}
	if f, err = s.function(r.Context(), id); err != nil {
		return f, nil, err
	}
	if err := mayReach(r.Context(), f.ID); err != nil {
		return f, nil, err
	}
	if f.Image != nil {
		return f, nil, warpket.Errorf(warpket.Invalid, "this function comes as an image, so there are no files to clone or push")
	}
	repository, err = s.repository(r.Context(), f)
	return f, repository, err
}

func (s *Server) gitRefs(w http.ResponseWriter, r *http.Request) {
	service := r.URL.Query().Get("service")
	if service != git.UploadPack && service != git.ReceivePack {
		s.gitRefuse(w, r, warpket.Errorf(warpket.Invalid, "this is a Git repository: git clone it"))
		return
	}
	_, repository, err := s.gitRepository(r, service)
	if err != nil {
		s.gitRefuse(w, r, err)
		return
	}
	gitHeader(w, service, "advertisement")
	_ = repository.Advertise(w, service) // the client may have gone
}

func gitHeader(w http.ResponseWriter, service, what string) {
	w.Header().Set("Content-Type", "application/x-"+service+"-"+what)
	w.Header().Set("Cache-Control", "no-cache")
}

// gitBody is the body of a request, which git may have packed.
func gitBody(w http.ResponseWriter, r *http.Request, limit int64) (io.Reader, error) {
	body := io.Reader(http.MaxBytesReader(w, r.Body, limit))
	if r.Header.Get("Content-Encoding") != "gzip" {
		return body, nil
	}
	unpacked, err := gzip.NewReader(body)
	if err != nil {
		return nil, warpket.Because(warpket.Malformed, err, "the body is not gzip")
	}
	return io.LimitReader(unpacked, limit), nil
}

func (s *Server) gitFetch(w http.ResponseWriter, r *http.Request) {
	_, repository, err := s.gitRepository(r, git.UploadPack)
	if err != nil {
		s.gitRefuse(w, r, err)
		return
	}
	talk, err := readTalk(w, r)
	if err != nil {
		s.gitRefuse(w, r, err)
		return
	}
	answer := &gitAnswer{ResponseWriter: w, service: git.UploadPack}
	err = repository.Upload(r.Context(), bytes.NewReader(talk), answer)
	switch {
	case err == nil:
		answer.begin()
	case !answer.begun:
		s.gitRefuse(w, r, err)
	case r.Context().Err() == nil:
		s.Log.WarnContext(r.Context(), "fetch broke off", "error", err)
	}
}

// readTalk reads what a fetch wants and has.
func readTalk(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(readTime)) // what cannot have one is no network connection
	defer func() { _ = control.SetReadDeadline(time.Time{}) }()
	body, err := gitBody(w, r, maxTalk)
	if err != nil {
		return nil, err
	}
	talk, err := io.ReadAll(body)
	if err != nil {
		return nil, warpket.Because(warpket.Malformed, err, "the body broke off, came too slowly, or has more than %d MiB", maxTalk>>20)
	}
	return talk, nil
}

// gitAnswer sends its head with its first byte, so that what fails before can
// still be answered otherwise.
type gitAnswer struct {
	http.ResponseWriter
	service string
	begun   bool
}

func (a *gitAnswer) begin() {
	if !a.begun {
		a.begun = true
		gitHeader(a.ResponseWriter, a.service, "result")
	}
}

func (a *gitAnswer) Write(b []byte) (int, error) {
	a.begin()
	return a.ResponseWriter.Write(b)
}

func (s *Server) gitPush(w http.ResponseWriter, r *http.Request) {
	f, repository, err := s.gitRepository(r, git.ReceivePack)
	if err != nil {
		s.gitRefuse(w, r, err)
		return
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(pushTime)) // what cannot have one is no network connection
	body, err := gitBody(w, r, maxDrain)
	var push *git.Push
	if err == nil {
		push, err = s.readPush(r.Context(), f.ProjectID, repository, body)
		_, _ = io.Copy(io.Discard, body) // git sends all of it before it listens
	}
	_ = control.SetReadDeadline(time.Time{})
	if push == nil && err != nil {
		s.gitRefuse(w, r, err)
		return
	}
	gitHeader(w, git.ReceivePack, "result")
	if push == nil { // git asks whether it may, before a large one
		return
	}
	answer := push.Answer(w, func() { _ = control.Flush() })
	v, err := s.publishRecorded(r.Context(), f, push, err)
	refused := ""
	if err == nil {
		s.sayVersion(r.Context(), answer, f, v)
	} else {
		p := problemOf(err)
		refused = p.Detail
		if p.Status >= http.StatusInternalServerError && r.Context().Err() == nil {
			s.Log.ErrorContext(r.Context(), "push failed", "function", f.ID, "error", err)
		}
	}
	_ = answer.Close(refused) // the client may have gone
}

// pushVersion is what the audit calls a push: no operation of the OpenAPI
// document does the same.
const pushVersion = "push-version"

// publishRecorded is publishPush for a push that was read, or refused for a
// reason, with its entry in the audit.
func (s *Server) publishRecorded(ctx context.Context, f warpket.Function, p *git.Push, refused error) (v warpket.Version, err error) {
	end, err := s.begin(ctx, f.ProjectID, pushVersion, string(f.ID))
	if err != nil {
		return v, err
	}
	status := http.StatusInternalServerError // unless it comes to an answer
	defer func() { end(status) }()
	if err = refused; err == nil {
		v, err = s.publishPush(ctx, f, p)
	}
	if status = http.StatusOK; err != nil {
		status = problemOf(err).Status
	}
	return v, err
}

// readPush reads a push when it is its turn.
func (s *Server) readPush(ctx context.Context, project warpket.ID, repository *git.Repository, body io.Reader) (*git.Push, error) {
	done, err := s.pushes.take(ctx, project)
	if err != nil {
		return nil, err
	}
	defer done()
	return repository.ReadPush(ctx, body)
}

// publishPush makes a version of what was pushed.
func (s *Server) publishPush(ctx context.Context, f warpket.Function, p *git.Push) (v warpket.Version, err error) {
	blobs := make([]newFile, len(p.Blobs))
	objects := p.Objects
	for i, b := range p.Blobs {
		blobs[i] = newFile{File: warpket.File{SHA256: warpket.SHA256(b.Content), Size: int64(len(b.Content))}, content: b.Content}
		objects = append(objects, warpket.GitObject{Hash: b.Hash, Kind: "blob", SHA256: blobs[i].SHA256, Size: blobs[i].Size})
	}
	files := make([]newFile, len(p.Files))
	for i, in := range p.Files {
		n := newFile{File: warpket.File{ID: warpket.NewID(s.Now()), Path: in.Path, Language: languageOf(in.Path), SHA256: in.Known.SHA256, Size: in.Known.Size}, stored: true}
		if n.SHA256 == "" {
			n.SHA256, n.Size = warpket.SHA256(in.Content), int64(len(in.Content))
		}
		files[i] = n
	}
	if err := s.store(ctx, f.ProjectID, blobs); err != nil {
		return v, err
	}
	if v, err = s.pushedVersion(ctx, f, clip(p.Message, 4000), files); err != nil {
		return v, err
	}
	v.Snapshot.Source = &warpket.Source{Kind: warpket.SourcePush, Commit: p.Commit}
	defer s.targets.drop()
	return s.Store.PublishCommit(ctx, v, p.Commit, p.Parent, objects)
}

// pushedVersion makes a version of files, on what the function's runtime is made
// of now, or like its newest version. It is not in the database yet.
func (s *Server) pushedVersion(ctx context.Context, f warpket.Function, description string, files []newFile) (v warpket.Version, err error) {
	if f.RuntimeID != "" {
		r, err := s.Store.Runtime(ctx, f.RuntimeID)
		if err != nil {
			return v, err
		}
		return s.versionOn(ctx, f, r, description, files)
	}
	newest, err := s.Store.Version(ctx, f.ProjectID, f.ID, 0)
	if err != nil {
		return v, err
	}
	runtime, err := s.Store.Runtime(ctx, newest.Snapshot.RuntimeID)
	if err != nil {
		return v, err
	}
	if runtime, err = s.runtimeRequired(ctx, f.ProjectID, runtime, files); err != nil {
		return v, err
	}
	return s.snapshot(ctx, f, runtime, description, files)
}

// sayVersion tells a pusher what has become of the push, and how the building
// of its runtime goes on, until that has ended or takes long. The version is
// there whether anybody listens or not.
func (s *Server) sayVersion(ctx context.Context, a *git.Answer, f warpket.Function, v warpket.Version) {
	_ = a.Say("%s: version %d, with %d files", f.Name, v.Number, len(v.Snapshot.Files))
	if err := s.sayRuntime(ctx, a, v.Snapshot.RuntimeID); err != nil {
		_ = a.Say("runtime: %s", problemOf(err).Detail)
	}
	_ = a.Say("next: POST /v1/functions/%s/versions/%d/deployments keeps it ready; POST /v1/executions {\"functionId\": \"%s\"} runs it", f.ID, v.Number, f.ID)
}

func (s *Server) sayRuntime(ctx context.Context, a *git.Answer, id warpket.ID) error {
	news := s.Hub.Watch(id)
	defer news.Close()
	before, err := s.Store.Runtime(ctx, id)
	if err != nil {
		return err
	}
	r, last := before, ""
	if r.Status != warpket.RuntimeAvailable {
		if err := s.Workflows.StartRuntime(ctx, r); err != nil {
			return err
		}
	}
	patience := time.NewTimer(runtimeWait)
	defer patience.Stop()
	for {
		if r, err = s.Store.Runtime(ctx, id); err != nil {
			return err
		}
		failed := r.Status == warpket.RuntimeFailed
		stale := failed && before.Status == r.Status && r.UpdatedDate.Equal(before.UpdatedDate) // from an earlier time
		name := strings.TrimSpace(r.SDK + " " + r.SDKVersion)
		switch {
		case r.Status == warpket.RuntimeAvailable:
			return a.Say("runtime: %s is available", name)
		case failed && !stale:
			return a.Say("runtime: %s could not be built: %s", name, r.Message)
		}
		if now := cmp.Or(r.Message, string(r.Status)); now != last && !failed {
			last = now
			if err := a.Say("runtime: %s, %s", name, now); err != nil {
				return err
			}
		}
		select {
		case <-news.C:
		case <-patience.C:
			return a.Say("runtime: still being built; GET /v1/runtimes/%s says how far it is", id)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// repository is a function's versions as a Git repository, each with a commit.
func (s *Server) repository(ctx context.Context, f warpket.Function) (*git.Repository, error) {
	for tries := 0; ; tries++ {
		versions, err := s.Store.Uncommitted(ctx, f.ProjectID, f.ID, 20)
		if err != nil {
			return nil, err
		}
		commits, err := s.Store.Commits(ctx, f.ProjectID, f.ID)
		if err != nil {
			return nil, err
		}
		if len(versions) == 0 {
			return &git.Repository{Objects: gitObjects{s, f}, Commits: commits}, nil
		}
		parent := ""
		if len(commits) > 0 {
			parent = commits[len(commits)-1].Hash
		}
		for _, v := range versions {
			if parent, err = s.addCommit(ctx, v, parent); err != nil {
				break
			}
			tries = 0
		}
		// A conflict says that another server has added commits, too.
		if err != nil && (warpket.KindOf(err) != warpket.Conflict || tries == 10) {
			return nil, err
		}
	}
}

// addCommit gives a version its commit, after parent, and returns its hash.
func (s *Server) addCommit(ctx context.Context, v warpket.Version, parent string) (string, error) {
	sums := make([]string, len(v.Snapshot.Files))
	for i, f := range v.Snapshot.Files {
		sums[i] = f.SHA256
	}
	known, err := s.Store.BlobHashes(ctx, v.ProjectID, v.FunctionID, sums)
	if err != nil {
		return "", err
	}
	hashes := make([]string, len(sums))
	g, ask := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i, sum := range sums {
		if hashes[i] = known[sum]; hashes[i] == "" {
			g.Go(func() error {
				b, err := s.Blobs.Get(ask, v.ProjectID, sum)
				hashes[i] = git.BlobHash(b)
				return err
			})
		}
	}
	if err := g.Wait(); err != nil {
		return "", err
	}
	var entries []git.Entry
	var blobs []warpket.GitObject
	for i, f := range v.Snapshot.Files {
		if warpket.InGit(f.Path) {
			entries = append(entries, git.Entry{Path: f.Path, Hash: hashes[i]})
			blobs = append(blobs, warpket.GitObject{Hash: hashes[i], Kind: "blob", SHA256: f.SHA256, Size: f.Size})
		}
	}
	hash, objects, err := git.NewCommit(v, entries, parent)
	if err != nil {
		return "", err
	}
	return hash, s.Store.AddCommit(ctx, v.ProjectID, v.FunctionID, warpket.Commit{Number: v.Number, Hash: hash}, parent, append(objects, blobs...))
}

// gitObjects are what a function's repository is made of.
type gitObjects struct {
	*Server
	f warpket.Function
}

// Find implements git.Objects.
func (o gitObjects) Find(ctx context.Context, hashes []string) ([]warpket.GitObject, error) {
	return o.Store.GitObjects(ctx, o.f.ProjectID, o.f.ID, hashes)
}

// Bytes implements git.Objects.
func (o gitObjects) Bytes(ctx context.Context, blob warpket.GitObject) ([]byte, error) {
	return o.Blobs.Get(ctx, o.f.ProjectID, blob.SHA256)
}

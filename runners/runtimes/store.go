// Package runtimes makes runtimes: it locks the packages of an SDK release and
// installs locks into environments that are checked, read-only and shared by
// all workers of a node.
package runtimes

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/pypi"
	"github.com/warpket/warpket/runners/sandbox"
)

// Config says what a store works with.
type Config struct {
	Dir       string // of the store; may be shared by agents of one machine
	Index     *pypi.Index
	IndexURL  string           // of the index for uv; empty: uv's default
	Launcher  sandbox.Launcher // of what is hostile: smoke runs
	Installer sandbox.Launcher // of uv, which needs the network
	Pythons   []Python
	UV        string                          // path of uv; empty: fetched
	Environ   []string                        // the agent's environment: proxies and certificates are passed on, nothing else
	Platform  string                          // of this machine, such as "linux/amd64"
	Keep      int64                           // bytes of the disk that are to stay free: before more is installed, environments go that nobody uses
	Free      func(dir string) (int64, error) // tells how many are; nil: asks the disk
}

// Store keeps the runtimes of a node.
type Store struct {
	config  Config
	fetches singleflight.Group
	builds  builds

	mu    sync.Mutex
	held  map[string]*hold // by folder of the environment
	letGo func(dir string)
}

// New makes a store. Dir is made when it is first needed.
func New(config Config) (*Store, error) {
	dir, err := filepath.Abs(config.Dir) // environments hold their own path
	if err != nil {
		return nil, fmt.Errorf("finding the folder of runtimes: %w", err)
	}
	config.Dir = dir
	if config.Free == nil {
		config.Free = freeOn
	}
	return &Store{config: config, builds: builds{running: map[string]*build{}}, held: map[string]*hold{}}, nil
}

// LockSpec says what to lock.
type LockSpec struct {
	Key          warpket.RuntimeKey
	Project      warpket.ID        // whose it alone is; empty for a shared runtime
	Packages     map[string]string // name to version specifiers, which may be empty
	Requirements []string          // more, as in requirements.txt, see warpket.ParseRequirements
	Until        time.Time         // packages released later are not considered; zero: no bound
}

var (
	packageForm   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
	specifierForm = regexp.MustCompile(`^[A-Za-z0-9.,<>=!~*+ -]*$`)
)

// Lock resolves packages to exact wheels with hashes, as the text of a
// requirements file. The same spec gives the same lock for as long as Until
// is past. A runtime without packages has an empty lock.
func (s *Store) Lock(ctx context.Context, spec LockSpec, progress func(string)) (string, error) {
	progress = orSilent(progress)
	if len(spec.Packages)+len(spec.Requirements) == 0 {
		return "", nil
	}
	requirements, err := requirementsOf(spec)
	if err != nil {
		return "", err
	}
	root, err := s.root(spec.Project)
	if err != nil {
		return "", err
	}
	python, err := s.python(spec.Key)
	if err != nil {
		return "", err
	}
	uv, err := s.UV(ctx, progress)
	if err != nil {
		return "", err
	}
	work, err := workDir(root)
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(work) }()
	in, out := filepath.Join(work, "requirements.in"), filepath.Join(work, "requirements.txt")
	if err := os.WriteFile(in, []byte(requirements), 0o600); err != nil {
		return "", fmt.Errorf("locking %s: %w", spec.Key, err)
	}
	argv := []string{
		uv, "pip", "compile", in, "-o", out, "--no-header", "--no-annotate",
		"--generate-hashes", "--only-binary", ":all:",
		"--python", python, "--python-version", spec.Key.Python,
	}
	if !spec.Until.IsZero() {
		argv = append(argv, "--exclude-newer", spec.Until.UTC().Format(time.RFC3339))
	}
	progress(fmt.Sprintf("resolving the packages of %s %s", spec.Key.SDK, spec.Key.SDKVersion))
	if err := s.runUV(ctx, "locking "+label(spec.Key), argv, nil, root, work, progress); err != nil {
		if len(spec.Requirements) > 0 && !spec.Until.IsZero() && warpket.KindOf(err) == warpket.Invalid {
			err = warpket.Because(warpket.Invalid, err, "%s (releases after %s are not considered: they are newer than the SDK's)", err.Error(), spec.Until.Format(time.DateOnly))
		}
		return "", err
	}
	lock, err := os.ReadFile(out)
	if err != nil {
		return "", fmt.Errorf("locking %s: %w", spec.Key, err)
	}
	return string(lock), nil
}

// requirementsOf is the text for the resolver. Names and specifiers come from
// callers: what could be an option, an address or a path is refused.
func requirementsOf(spec LockSpec) (string, error) {
	own, err := warpket.ParseRequirements(strings.Join(spec.Requirements, "\n"))
	if err != nil {
		return "", err
	}
	lines := make([]string, 0, len(spec.Packages)+len(own))
	for _, line := range own {
		lines = append(lines, line+"\n")
	}
	for name, specifiers := range spec.Packages {
		if !packageForm.MatchString(name) || !specifierForm.MatchString(specifiers) {
			return "", warpket.Errorf(warpket.Invalid, "%q is not the requirement of a package: use a name and version specifiers", name+specifiers)
		}
		lines = append(lines, name+specifiers+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, ""), nil
}

// python is the interpreter for a runtime, if it is one for this machine.
func (s *Store) python(key warpket.RuntimeKey) (string, error) {
	if key.Platform != s.config.Platform {
		return "", warpket.Errorf(warpket.Invalid, "%s is for %s, and this node is %s", label(key), key.Platform, s.config.Platform)
	}
	for _, p := range s.config.Pythons {
		if p.Minor == key.Python {
			return p.Path, nil
		}
	}
	return "", warpket.Errorf(warpket.Invalid, "%s needs Python %s, which this node lacks", label(key), key.Python)
}

func label(key warpket.RuntimeKey) string { return key.SDK + " " + key.SDKVersion }

// runUV runs uv. Its exit code tells a request that cannot be met (1) from
// trouble on the way (2).
func (s *Store) runUV(ctx context.Context, what string, argv, env []string, root, dir string, progress func(string)) error {
	home := filepath.Join(root, "home")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	network, variables, err := s.network(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	e, err := run(ctx, s.config.Installer, program{
		argv:     argv,
		env:      slices.Concat(s.uvEnv(root), variables, env),
		dir:      dir,
		network:  network,
		readOnly: slices.Concat(s.interpreters(), certificates(s.config.Environ), []string{filepath.Dir(argv[0])}),
		writable: []string{root},
		timeout:  15 * time.Minute,
		progress: func(line string) {
			if told(line) {
				progress(strings.ToLower(line[:1]) + line[1:])
			}
		},
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	text := strings.ReplaceAll(strings.ReplaceAll(e.tail, root+string(filepath.Separator), ""), s.config.Dir+string(filepath.Separator), "")
	switch {
	case e.timedOut:
		return warpket.Errorf(warpket.Unavailable, "%s took longer than 15 minutes: %s", what, text)
	case e.exit.OK():
		return nil
	case e.exit.Code == 1 && e.exit.Signal == 0:
		return warpket.Errorf(warpket.Invalid, "%s failed: %s", what, text)
	}
	return warpket.Errorf(warpket.Unavailable, "%s failed: %s", what, text)
}

// told reports whether a line of uv's is progress that people want to see.
func told(line string) bool {
	first, rest, _ := strings.Cut(line, " ")
	return slices.Contains([]string{"Resolved", "Prepared", "Installed", "Bytecode"}, first) && rest != ""
}

func (s *Store) uvEnv(root string) []string {
	env := append(passOn(s.config.Environ, s.sandboxed()),
		"PATH=/usr/local/bin:/usr/bin:/bin",
		"HOME="+filepath.Join(root, "home"),
		"LANG=C.UTF-8",
		"NO_COLOR=1",
		"UV_CACHE_DIR="+filepath.Join(root, "uv-cache"),
		"UV_PYTHON_DOWNLOADS=never",
		"UV_NO_CONFIG=1",
		"UV_NO_PROGRESS=1",
	)
	if s.config.IndexURL != "" {
		env = append(env, "UV_DEFAULT_INDEX="+s.config.IndexURL)
	}
	return env
}

// root is the folder for what belongs together: environments, caches and work.
// What a project's packages put there, no other project and no shared runtime
// ever reads.
func (s *Store) root(project warpket.ID) (string, error) {
	if project == "" {
		return s.config.Dir, nil
	}
	id, err := warpket.ParseID("project", string(project))
	return filepath.Join(s.config.Dir, "projects", string(id)), err
}

// workDir makes a folder for one piece of work.
func workDir(root string) (string, error) {
	parent := filepath.Join(root, "tmp")
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", fmt.Errorf("making a folder to work in: %w", err)
	}
	return os.MkdirTemp(parent, "work-")
}

func orSilent(progress func(string)) func(string) {
	if progress == nil {
		return func(string) {}
	}
	return progress
}

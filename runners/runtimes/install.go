package runtimes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/warpket/warpket"
)

// InstallSpec says what to install.
type InstallSpec struct {
	Key     warpket.RuntimeKey
	Project warpket.ID // whose it alone is; empty for a shared runtime
	Lock    string     // as Lock made it
	Smoke   string     // Python program that must succeed before the runtime is used; may be empty
}

const (
	marker       = "complete" // in the folder of an environment, written last
	smokeTimeout = 2 * time.Minute
	modulesFile  = "warpket-modules" // in the cache folder: what the smoke run has imported

	// noteModules ends a smoke run.
	noteModules = `
import os as _os, sys as _sys
with open(_os.path.join(_os.environ["XDG_CACHE_HOME"], "` + modulesFile + `"), "w") as _file:
    _file.write("\n".join(_n for _n, _m in list(_sys.modules.items()) if getattr(_m, "__spec__", None) and _n == _m.__spec__.name))
`
)

// Install installs a lock, once for all who ask, and gives the environment, which
// stays until it is released. An environment is used only when it is complete: what a crash left half
// made is removed and made anew.
func (s *Store) Install(ctx context.Context, spec InstallSpec, progress func(string)) (Env, error) {
	python, err := s.python(spec.Key)
	if err != nil {
		return Env{}, err
	}
	root, err := s.root(spec.Project)
	if err != nil {
		return Env{}, err
	}
	dir := filepath.Join(root, "envs", folderOf(spec, python))
	for {
		if env, ok := s.use(spec.Key, dir); ok {
			return env, nil
		}
		if err := s.add(ctx, root, dir, python, spec, orSilent(progress)); err != nil {
			return Env{}, err
		}
	}
}

// add makes an environment, unless somebody else does, which it waits for.
func (s *Store) add(ctx context.Context, root, dir, python string, spec InstallSpec, progress func(string)) error {
	return s.builds.join(ctx, dir, progress, func(ctx context.Context, progress func(string)) error {
		unlock, err := lockFile(ctx, dir+".lock", func() { progress("waiting for another build of the same runtime") })
		if err != nil {
			return fmt.Errorf("installing %s: %w", label(spec.Key), err)
		}
		defer unlock()
		if complete(dir) {
			return nil
		}
		s.makeRoom(ctx, progress)
		if err := s.build(ctx, root, dir, python, spec, progress); err != nil {
			_ = removeTree(dir)
			return err
		}
		return nil
	})
}

// folderOf names the folder of an environment after all that is in it.
func folderOf(spec InstallSpec, python string) string {
	name := strings.NewReplacer("runtime/", "", "/", "-").Replace(spec.Key.String())
	digest := warpket.SHA256([]byte(spec.Lock + "\x00" + spec.Smoke + noteModules + "\x00" + python))
	return name + "-" + digest[:16]
}

func complete(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, marker))
	return err == nil
}

func (s *Store) build(ctx context.Context, root, dir, python string, spec InstallSpec, progress func(string)) error {
	if err := removeTree(dir); err != nil {
		return fmt.Errorf("removing what is left of an earlier build: %w", err)
	}
	var err error
	if spec.Lock == "" {
		err = bareEnv(dir, python, spec.Key.Python)
	} else {
		err = s.sync(ctx, root, dir, python, spec, progress)
	}
	if err != nil {
		return fmt.Errorf("installing %s: %w", label(spec.Key), err)
	}
	if err := s.smoke(ctx, root, dir, spec, progress); err != nil {
		return err
	}
	if err := freeze(dir); err != nil {
		return fmt.Errorf("installing %s: %w", label(spec.Key), err)
	}
	return nil
}

// sync makes the environment and installs the lock into it.
func (s *Store) sync(ctx context.Context, root, dir, python string, spec InstallSpec, progress func(string)) error {
	uv, err := s.UV(ctx, progress)
	if err != nil {
		return err
	}
	work, err := workDir(root)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	lock := filepath.Join(work, "requirements.txt")
	if err := os.WriteFile(lock, []byte(spec.Lock), 0o600); err != nil {
		return err
	}
	what := "installing " + label(spec.Key)
	progress(what)
	if err := s.runUV(ctx, what, []string{uv, "venv", "--python", python, dir}, nil, root, work, progress); err != nil {
		return err
	}
	return s.runUV(ctx, what,
		[]string{uv, "pip", "sync", "--require-hashes", "--only-binary", ":all:", "--compile-bytecode", lock},
		[]string{"VIRTUAL_ENV=" + dir}, root, work, progress)
}

// bareEnv makes an environment without packages: two files, no installer and
// no network.
func bareEnv(dir, python, minor string) error {
	for _, folder := range []string{"bin", filepath.Join("lib", "python"+minor, "site-packages")} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
			return err
		}
	}
	config := fmt.Sprintf("home = %s\ninclude-system-site-packages = false\n", filepath.Dir(python))
	if err := os.WriteFile(filepath.Join(dir, "pyvenv.cfg"), []byte(config), 0o644); err != nil { //nolint:gosec // workers of any user read it
		return err
	}
	return os.Symlink(python, filepath.Join(dir, "bin", "python"))
}

// smoke runs the check of a runtime in it. What it leaves in the cache folder
// stays: plugin loaders look there, and would search all packages otherwise.
func (s *Store) smoke(ctx context.Context, root, dir string, spec InstallSpec, progress func(string)) error {
	env := envAt(spec.Key, dir)
	if err := os.MkdirAll(env.CacheHome, 0o755); err != nil {
		return fmt.Errorf("smoke run of %s: %w", label(spec.Key), err)
	}
	if spec.Smoke == "" {
		return nil
	}
	work, err := workDir(root)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	progress("smoke run of " + label(spec.Key))
	e, err := run(ctx, s.config.Launcher, program{
		argv: []string{env.Python, "-I", "-c", spec.Smoke + noteModules},
		env: []string{
			"PATH=" + filepath.Join(dir, "bin") + ":/usr/local/bin:/usr/bin:/bin",
			"HOME=" + work,
			"TMPDIR=" + work,
			"XDG_CACHE_HOME=" + env.CacheHome,
			"LANG=C.UTF-8",
			"OMP_NUM_THREADS=1",
		},
		dir:      work,
		readOnly: env.ReadOnly(),
		writable: []string{work, env.CacheHome},
		timeout:  smokeTimeout,
	})
	switch {
	case err != nil:
		return fmt.Errorf("smoke run of %s: %w", label(spec.Key), err)
	case e.timedOut:
		return warpket.Errorf(warpket.Invalid, "%s was installed but does not work: its smoke run took longer than %s", label(spec.Key), smokeTimeout)
	case !e.exit.OK():
		text := strings.ReplaceAll(e.tail, dir+string(filepath.Separator), "")
		return warpket.Errorf(warpket.Invalid, "%s was installed but does not work: its smoke run ended with %s: %s", label(spec.Key), e.exit, text)
	}
	return nil
}

// freeze makes a tree read-only and marks it complete, in this order.
func freeze(dir string) error {
	done, err := os.OpenFile(filepath.Join(dir, marker+".new"), os.O_CREATE|os.O_WRONLY, 0o444) //nolint:gosec // read by all
	if err != nil {
		return err
	}
	if err := done.Close(); err != nil {
		return err
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm()&^0o222 | 0o444 // workers of any user read it
		if mode&0o111 != 0 {
			mode |= 0o111
		}
		return os.Chmod(path, mode)
	})
	if err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(dir, marker+".new"), filepath.Join(dir, marker)); err != nil {
		return err
	}
	return os.Chmod(dir, 0o555) //nolint:gosec // read by all, written by none
}

// removeTree removes a folder even if freeze has made it read-only.
func removeTree(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(path, 0o700) //nolint:gosec // a folder about to go
		}
		return nil
	})
	return os.RemoveAll(dir)
}

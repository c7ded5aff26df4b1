package runtimes

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/warpket/warpket"
)

// Env is a runtime installed on this machine. Nothing in it may be changed.
type Env struct {
	Key       warpket.RuntimeKey
	Dir       string // its folder
	Python    string // path of its interpreter
	CacheHome string // XDG_CACHE_HOME for its programs: what the smoke run left there

	release func()
}

// Release lets go of the environment: it may be removed when the disk is short.
func (e Env) Release() {
	if e.release != nil {
		e.release()
	}
}

func envAt(key warpket.RuntimeKey, dir string) Env {
	return Env{Key: key, Dir: dir, Python: filepath.Join(dir, "bin", "python"), CacheHome: filepath.Join(dir, "cache")}
}

// ReadOnly are the folders that programs of the environment read: its own and,
// if the machine's /usr does not hold it, its interpreter's.
func (e Env) ReadOnly() []string {
	return append([]string{e.Dir}, baseOf(e.Python)...)
}

// baseOf is the folder of an interpreter, unless the machine's /usr holds it.
func baseOf(python string) []string {
	python, err := filepath.EvalSymlinks(python)
	if err != nil || strings.HasPrefix(python, "/usr/") {
		return nil
	}
	return []string{filepath.Dir(filepath.Dir(python))}
}

// Modules are those that the smoke run has imported: what most programs of
// this environment need.
func (e Env) Modules() []string {
	b, _ := os.ReadFile(filepath.Join(e.CacheHome, modulesFile)) // one without a smoke run has none
	return strings.Fields(string(b))
}

// passed are the variables of the agent that its installers need to reach the
// index through what the operator has set up. In a sandbox the way to the index
// is another.
var passed = map[string]bool{
	"HTTP_PROXY": true, "HTTPS_PROXY": true, "ALL_PROXY": true, "NO_PROXY": true,
	"SSL_CERT_FILE": true, "SSL_CERT_DIR": true, "PIP_CERT": true,
}

// passOn picks from the agent's environment what installers may see.
func passOn(environ []string, sandboxed bool) []string {
	var env []string
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		if upper := strings.ToUpper(name); passed[upper] && (!sandboxed || !strings.HasSuffix(upper, "_PROXY")) {
			env = append(env, variable)
		}
	}
	return env
}

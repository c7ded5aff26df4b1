package pypi

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// recall gives the last answer about a package, from memory or the folder.
func (x *Index) recall(name string) (answer, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if a, ok := x.known[name]; ok {
		return a, true
	}
	if x.config.CacheDir == "" {
		return answer{}, false
	}
	content, err := os.ReadFile(x.path(name))
	if err != nil {
		return answer{}, false
	}
	var a answer
	if json.Unmarshal(content, &a) != nil || a.Project.Name != name {
		return answer{}, false // written by another release: ask again
	}
	x.known[name] = a
	return a, true
}

// keep keeps an answer in memory.
func (x *Index) keep(a answer) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.known[a.Project.Name] = a
}

// remember keeps an answer, also in the folder. The folder is a help only: what cannot be written
// is asked again after a restart.
func (x *Index) remember(a answer) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.known[a.Project.Name] = a
	if x.config.CacheDir == "" || os.MkdirAll(x.config.CacheDir, 0o755) != nil {
		return
	}
	content, err := json.Marshal(a)
	if err != nil {
		return
	}
	temp, err := os.CreateTemp(x.config.CacheDir, ".answer-")
	if err != nil {
		return
	}
	_, err = temp.Write(content)
	if closeErr := temp.Close(); err == nil && closeErr == nil {
		err = os.Rename(temp.Name(), x.path(a.Project.Name))
	}
	if err != nil {
		_ = os.Remove(temp.Name())
	}
}

// path is the file of a package's answer. Normal names are safe as file names.
func (x *Index) path(name string) string {
	return filepath.Join(x.config.CacheDir, name+".json")
}

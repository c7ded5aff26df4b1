package sandbox_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/warpket/warpket/runners/sandbox"
)

func TestWhatASandboxWritesIsTheAgentsAndLendsNobodyItsRights(t *testing.T) {
	t.Parallel()
	isolated(t, func(t *testing.T, launcher sandbox.Launcher) {
		folder := openDir(t)
		before := filepath.Join(folder, "before")
		must(t, os.WriteFile(before, []byte("agent"), 0o600))
		spec := shell(t, `cd `+folder+` && id -u && cat before && echo more >> before && mkdir sub && echo x > sub/file && cp /bin/true set && chmod 755 set
chmod 4755 set 2>/dev/null && echo chmod worked
python3 -c "import os; os.close(os.open('made', os.O_CREAT | os.O_WRONLY, 0o4755))" && echo open worked
true`)
		spec.Writable = []string{folder}
		uid := "1000"
		if kindOf(launcher) == "gvisor" && launcher.Isolation().UID == "shared" { // an ordinary user has but one to give
			uid = "0"
		}
		box, out, _ := run(t, launcher, spec)
		if !strings.HasPrefix(out, uid+"\nagent") || strings.Contains(out, "worked") {
			t.Errorf("it says %q", out)
		}
		must(t, box.Close()) // until then, they may be of a user that only the sandbox has
		for _, name := range []string{"before", "sub", "sub/file", "set"} {
			info, err := os.Stat(filepath.Join(folder, name))
			must(t, err)
			if uid := int(info.Sys().(*syscall.Stat_t).Uid); uid != os.Geteuid() {
				t.Errorf("%s belongs to %d", name, uid)
			}
			if info.Mode()&os.ModeSetuid != 0 {
				t.Errorf("%s lends its owner's rights: %s", name, info.Mode())
			}
		}
		if _, err := os.Stat(filepath.Join(folder, "made")); err == nil {
			t.Error("a file was made that lends its owner's rights")
		}
	})
}

package sandbox_test

import (
	"debug/elf"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/runners/sandbox"
)

func TestAProgramReadsAndWritesWhatItMay(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, launcher sandbox.Launcher) {
		dir := openDir(t)
		in, out := filepath.Join(dir, "in"), filepath.Join(dir, "in", "out")
		must(t, os.MkdirAll(out, 0o755))
		must(t, os.WriteFile(in+"/file", []byte("read\n"), 0o644))
		must(t, os.WriteFile(out+"/old", []byte("old\n"), 0o600))
		spec := shell(t, "cat file; cat out/old; echo new > out/new; chmod 600 out/new; echo more >> out/old; mkdir -m 700 out/folder; echo deep > out/folder/file")
		spec.Dir, spec.ReadOnly, spec.Writable = in, []string{in}, []string{out}
		box, text, exit := run(t, launcher, spec)
		must(t, box.Close())
		if text != "read\nold\n" || !exit.OK() {
			t.Errorf("%q, %s", text, exit)
		}
		for name, want := range map[string]string{"new": "new\n", "old": "old\nmore\n", "folder/file": "deep\n"} {
			b, err := os.ReadFile(filepath.Join(out, name))
			if err != nil || string(b) != want || ownerOf(t, filepath.Join(out, name)) != os.Geteuid() {
				t.Errorf("%s is %q of user %d, %v", name, b, ownerOf(t, filepath.Join(out, name)), err)
			}
		}
	})
}

func TestWhatAProgramLeavesInAFolderIsHarmless(t *testing.T) {
	t.Parallel()
	isolated(t, func(t *testing.T, launcher sandbox.Launcher) {
		dir := openDir(t)
		scratch, secret := filepath.Join(dir, "scratch"), filepath.Join(dir, "secret")
		must(t, os.Mkdir(scratch, 0o755))
		must(t, os.WriteFile(secret, nil, 0o600))
		owner := os.Geteuid()
		if owner == 0 {
			owner = 12_345
			must(t, os.Chown(secret, owner, owner))
		}
		spec := script(t, `
import os, socket, sys
os.chdir(sys.argv[1])
os.symlink(sys.argv[2], "link")
os.symlink("..", "up")
os.symlink("/usr", "folder-link")
os.mkfifo("fifo")
socket.socket(socket.AF_UNIX).bind("socket")
os.close(os.open("setuid", os.O_CREAT | os.O_WRONLY))
try:
    os.chmod("setuid", 0o6777)
except PermissionError:
    os.chmod("setuid", 0o777)
os.makedirs("closed/below")
os.chmod("closed/below", 0)
os.chmod("closed", 0)
for _ in range(60):
    os.mkdir("d" * 100)
    os.chdir("d" * 100)
os.chdir(sys.argv[1])
os.mkdir("z-comes-last")
os.chmod(".", 0)
print("done")`, scratch, secret)
		spec.Writable = []string{scratch}
		box, out, exit := run(t, launcher, spec)
		if out != "done\n" || !exit.OK() {
			t.Fatalf("%q, %s", out, exit)
		}
		must(t, box.Close())
		if got := ownerOf(t, secret); got != owner {
			t.Errorf("a link gave a file outside to user %d", got)
		}
		names := []string{"", "link", "up", "folder-link", "setuid", "closed", "closed/below", strings.Repeat("d", 100), "z-comes-last"}
		if kindOf(launcher) != "gvisor" { // whose kernel keeps these to itself
			names = append(names, "fifo", "socket")
		}
		for _, name := range names {
			if got := ownerOf(t, filepath.Join(scratch, name)); got != os.Geteuid() {
				t.Errorf("%q belongs to user %d", name, got)
			}
		}
		if info, err := os.Lstat(filepath.Join(scratch, "setuid")); err != nil || info.Mode() != 0o777 {
			t.Errorf("the file that was setuid is %v, %v", info.Mode(), err)
		}
		must(t, os.RemoveAll(scratch))
	})
}

func TestAProgramHasTheSystemThatItWasGiven(t *testing.T) {
	t.Parallel()
	isolated(t, func(t *testing.T, launcher sandbox.Launcher) {
		root := system(t)
		must(t, os.Chmod(filepath.Join(root, "etc", "hello"), 0o666))
		spec := shell(t, "read line < /etc/hello; echo $line; echo x > /etc/hello; echo /*; read x < /dev/null; echo x > /tmp/x && echo fine")
		spec.Root, spec.Env = root, nil
		_, out, _ := run(t, launcher, spec)
		for _, want := range []string{"hello\n", "Read-only file system", "fine\n"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is not in %q", want, out)
			}
		}
		if strings.Contains(out, "/usr") || strings.Contains(out, "/home") || strings.Contains(out, "/tmp/") {
			t.Errorf("it sees %q", out)
		}
	})
}

func TestALinkInASystemLeadsNowhereElse(t *testing.T) {
	t.Parallel()
	isolated(t, func(t *testing.T, launcher sandbox.Launcher) {
		elsewhere, err := os.MkdirTemp("/dev/shm", "warpket-test-")
		must(t, err)
		t.Cleanup(func() { must(t, os.RemoveAll(elsewhere)) })
		must(t, os.Chmod(elsewhere, 0o777))
		sdk, err := os.MkdirTemp("/var/tmp", "warpket-test-")
		must(t, err)
		t.Cleanup(func() { must(t, os.RemoveAll(sdk)) })
		root := system(t)
		must(t, os.Symlink(elsewhere, filepath.Join(root, "var")))
		spec := shell(t, "exit 0")
		spec.Root, spec.ReadOnly = root, []string{sdk}
		if box, err := launcher.Start(t.Context(), spec); err == nil {
			_ = box.Close()
		}
		if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) > 0 {
			t.Errorf("made on the machine: %v, %v", entries, err)
		}
	})
}

func TestAProgramHasTheDevicesThatItWasGiven(t *testing.T) {
	t.Parallel()
	isolated(t, func(t *testing.T, launcher sandbox.Launcher) {
		for device, want := range map[string]string{"/dev/tty": "No such device or address", "/dev/fuse": "No such file"} {
			spec := shell(t, "cat /dev/tty")
			spec.Name, spec.Devices = t.Name()+device, []string{device}
			if kindOf(launcher) == "gvisor" { // which has no devices to give, and says so
				if _, err := launcher.Start(t.Context(), spec); warpket.KindOf(err) != warpket.Unavailable || !strings.Contains(err.Error(), device) {
					t.Errorf("with %s: error %v", device, err)
				}
				continue
			}
			if _, out, _ := run(t, launcher, spec); !strings.Contains(out, want) {
				t.Errorf("with %s: %q", device, out)
			}
		}
	})
}

func TestWhatIsNotThereIsNamed(t *testing.T) {
	t.Parallel()
	const nonesuch = "/nonesuch/path"
	tests := map[string]func(*sandbox.Spec){
		"its program":           func(s *sandbox.Spec) { s.Argv = []string{nonesuch} },
		"its folder":            func(s *sandbox.Spec) { s.Dir = nonesuch },
		"what it may read":      func(s *sandbox.Spec) { s.ReadOnly = []string{nonesuch} },
		"what it may write":     func(s *sandbox.Spec) { s.Writable = []string{nonesuch} },
		"its devices":           func(s *sandbox.Spec) { s.Devices = []string{nonesuch} },
		"its system":            func(s *sandbox.Spec) { s.Root = nonesuch },
		"all, and it has files": func(s *sandbox.Spec) { s.Root, s.Files = nonesuch, []*os.File{os.Stdin} },
	}
	isolated(t, func(t *testing.T, launcher sandbox.Launcher) {
		for name, change := range tests {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				spec := shell(t, "exit 0")
				change(&spec)
				for range 2 { // and the name is free again
					if _, err := launcher.Start(t.Context(), spec); err == nil || !strings.Contains(err.Error(), nonesuch) {
						t.Errorf("error %v", err)
					}
				}
			})
		}
	})
}

// system is a folder with a shell and what that needs.
func system(t *testing.T) string {
	t.Helper()
	root := openDir(t)
	put := func(path string) {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755))
		copyFile(t, path, filepath.Join(root, path), 0o755)
	}
	put("/bin/sh")
	program, err := elf.Open("/bin/sh")
	must(t, err)
	defer program.Close()
	for _, part := range program.Progs {
		if part.Type == elf.PT_INTERP {
			name := make([]byte, part.Filesz-1)
			_, err := part.ReadAt(name, 0)
			must(t, err)
			put(string(name))
		}
	}
	libraries, err := program.ImportedLibraries()
	must(t, err)
	for _, library := range libraries {
		for _, folder := range []string{"/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64", "/lib"} {
			if _, err := os.Stat(filepath.Join(folder, library)); err == nil {
				put(filepath.Join(folder, library))
				break
			}
		}
	}
	must(t, os.Mkdir(filepath.Join(root, "etc"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "etc", "hello"), []byte("hello\n"), 0o644))
	return root
}

func ownerOf(t *testing.T, path string) int {
	t.Helper()
	info, err := os.Lstat(path)
	must(t, err)
	return int(info.Sys().(*syscall.Stat_t).Uid)
}

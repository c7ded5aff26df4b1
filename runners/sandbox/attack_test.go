package sandbox_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/warpket/warpket/runners/sandbox"
)

const python = "/usr/bin/python3"

// attack is what comes of one function of testdata/attack.py.
type attack struct {
	inside  string // what it must answer inside
	shared  string // the same, where the sandbox has the user of the agent, if that differs
	outside string // what the agent itself gets from it; "ok" if empty
	root    bool   // the agent gets that only as root
}

const anything = "*"

// attacks are all that the script tries. That the agent can do the same shows
// that the attack is one: nothing passes because it was done wrong.
var attacks = map[string]attack{
	// Files.
	"read_a_secret":                             {inside: "ENOENT"},
	"list_another_tenant":                       {inside: "ENOENT"},
	"read_a_private_file_in_a_listed_folder":    {inside: "EACCES", shared: "ok"},
	"find_the_machines_files":                   {inside: "nothing", outside: anything},
	"write_to_a_listed_file":                    {inside: "EROFS"},
	"make_a_file_in_a_listed_folder":            {inside: "EROFS"},
	"change_the_mode_of_a_listed_file":          {inside: "EROFS"},
	"link_a_listed_file_into_a_writable_folder": {inside: "EXDEV"},
	"write_beside_the_system":                   {inside: "EROFS", root: true},
	"write_to_the_system":                       {inside: "EROFS", root: true},
	"replace_process_1":                         {inside: "EROFS", outside: "ENOENT"},
	"remount_a_listed_folder_writable":          {inside: "EPERM"},
	"set_the_attributes_of_a_mount":             {inside: "EPERM"},
	"mount_a_tmpfs":                             {inside: "EPERM"},
	"mount_proc":                                {inside: "EPERM"},
	"unmount":                                   {inside: "EPERM", root: true},
	"pivot_root":                                {inside: "EPERM"},
	"chroot":                                    {inside: "EPERM"},
	"open_tree":                                 {inside: "EPERM", root: true},
	"fsopen":                                    {inside: "EPERM"},
	"move_mount":                                {inside: "EPERM", root: true},
	"open_by_handle":                            {inside: "EPERM"},
	"make_a_character_device":                   {inside: "EPERM", root: true},
	"make_a_block_device":                       {inside: "EPERM", root: true},
	"find_devices":                              {inside: "/dev/full /dev/null /dev/random /dev/urandom /dev/zero", outside: anything},
	"see_mounts_that_are_too_open":              {inside: "none", outside: anything},
	"run_code_from_shared_memory":               {inside: "EPERM"},

	// The network.
	"reach_the_machines_loopback":           {inside: "ECONNREFUSED"},
	"reach_the_machines_loopback_by_ipv6":   {inside: "ECONNREFUSED"},
	"route_to_the_internet":                 {inside: "ENETUNREACH", outside: anything},
	"route_to_the_internet_by_tcp":          {inside: "ENETUNREACH", outside: "not tried"},
	"route_to_the_clouds_metadata":          {inside: "ENETUNREACH", outside: anything},
	"reach_an_abstract_socket":              {inside: "ECONNREFUSED"},
	"reach_a_socket_by_its_path":            {inside: "ENOENT"},
	"use_the_own_loopback":                  {inside: "ok"},
	"use_an_own_abstract_socket":            {inside: "ok"},
	"open_sockets_of_all_families":          {inside: "0x1 0x2 0xa", outside: anything},
	"open_pairs_of_sockets_of_all_families": {inside: "0x1", outside: anything},
	"open_a_socket_for_netlink":             {inside: "EPERM"},
	"open_a_socket_for_packets":             {inside: "EPERM", root: true},
	"open_a_socket_for_the_kernels_ciphers": {inside: "EPERM", outside: anything},
	"open_a_socket_for_the_hypervisor":      {inside: "EPERM", outside: anything},
	"open_a_socket_for_bluetooth":           {inside: "EPERM", outside: anything},
	"open_a_socket_for_can":                 {inside: "EPERM", outside: anything},
	"open_a_socket_for_tipc":                {inside: "EPERM", outside: anything},
	"open_a_socket_for_xdp":                 {inside: "EPERM", outside: anything},
	"open_a_socket_for_raw_ip":              {inside: "EPERM", root: true},
	"open_a_socket_for_raw_ipv6":            {inside: "EPERM", root: true},

	// Other processes.
	"see_other_processes":                {inside: "nothing"},
	"signal_a_process_of_the_machine":    {inside: "ESRCH"},
	"look_at_a_process_of_the_machine":   {inside: "ENOENT"},
	"read_the_memory_of_process_1":       {inside: "ENOENT"},
	"write_the_memory_of_process_1":      {inside: "ENOENT"},
	"read_the_environment_of_process_1":  {inside: "ENOENT"},
	"read_the_maps_of_process_1":         {inside: "ENOENT"},
	"open_the_program_of_process_1":      {inside: "ENOENT"},
	"open_the_root_of_process_1":         {inside: "ENOENT"},
	"open_a_namespace_of_process_1":      {inside: "ENOENT"},
	"write_to_a_descriptor_of_process_1": {inside: "ENOENT"},
	"attach_to_process_1":                {inside: "EPERM"},
	"signal_process_1":                   {inside: "survived", outside: "not tried"},
	"share_memory_with_the_machine":      {inside: "ENOENT"},
	"be_traced":                          {inside: "EPERM"},
	"read_the_memory_of_a_child":         {inside: "EPERM"},
	"write_the_memory_of_a_child":        {inside: "EPERM"},
	"compare_with_a_child":               {inside: "EPERM", outside: anything},
	"take_a_descriptor_of_a_child":       {inside: "EPERM"},

	// More of the kernel.
	"join_a_namespace":           {inside: "EPERM", root: true},
	"load_a_bpf_map":             {inside: "EPERM", root: true},
	"watch_performance":          {inside: "EPERM", outside: anything},
	"handle_page_faults":         {inside: "EPERM"},
	"make_an_io_uring":           {inside: "EPERM", outside: anything},
	"find_the_sessions_keys":     {inside: "EPERM"},
	"add_a_key":                  {inside: "EPERM"},
	"change_the_clock":           {inside: "EPERM", outside: "not tried"},
	"read_the_kernels_log":       {inside: "EPERM", root: true},
	"unshare_ns":                 {inside: "EPERM"},
	"unshare_cgroup":             {inside: "EPERM"},
	"unshare_uts":                {inside: "EPERM"},
	"unshare_ipc":                {inside: "EPERM"},
	"unshare_user":               {inside: "EPERM"},
	"unshare_pid":                {inside: "EPERM"},
	"unshare_net":                {inside: "EPERM"},
	"unshare_time":               {inside: "EPERM", outside: anything},
	"clone_ns":                   {inside: "EPERM"},
	"clone_cgroup":               {inside: "EPERM"},
	"clone_uts":                  {inside: "EPERM"},
	"clone_ipc":                  {inside: "EPERM"},
	"clone_user":                 {inside: "EPERM"},
	"clone_pid":                  {inside: "EPERM"},
	"clone_net":                  {inside: "EPERM"},
	"clone3_user":                {inside: "ENOSYS"},
	"clone3_plain":               {inside: "ENOSYS"},
	"call_by_x32":                {inside: "ENOSYS", outside: anything},
	"call_by_int80_getpid":       {inside: "EPERM", outside: anything},
	"call_by_int80_unshare_user": {inside: "EPERM", outside: anything},

	// Who we are.
	"be_root":                     {inside: "no", root: true},
	"belong_to_groups":            {inside: "none", outside: "65432", root: true},
	"become_root":                 {inside: "EPERM", shared: "EINVAL", root: true},
	"become_another_user":         {inside: "EPERM", shared: "EINVAL", root: true},
	"join_roots_group":            {inside: "EPERM", root: true},
	"have_capabilities":           {inside: "0000000000000000", outside: anything},
	"raise_a_capability":          {inside: "EPERM", root: true},
	"gain_privileges":             {inside: "NoNewPrivs 1, Seccomp 2", outside: "NoNewPrivs 0, Seccomp 0"},
	"run_a_setuid_program":        {inside: "1000", outside: "0"},
	"run_in_real_time":            {inside: "EPERM", root: true},
	"be_nicer_to_oneself":         {inside: "EACCES", root: true},
	"raise_a_limit":               {inside: "not allowed to raise maximum limit", outside: anything},
	"dump_core":                   {inside: "1 1", outside: anything},
	"escape_when_memory_runs_out": {inside: "EACCES"},
	"name_the_host":               {inside: "EPERM"},
	"learn_the_hosts_name":        {inside: "warpket", outside: anything},
	"learn_the_environment":       {inside: "LC_CTYPE ONLY", outside: anything},
	"learn_the_descriptors":       {inside: "0 1 2", outside: anything},
	"learn_the_cgroup":            {inside: "/", outside: anything},
	"learn_about_the_machine":     {inside: "cpuinfo filesystems meminfo version", outside: anything},
	"write_to_the_code":           {inside: "ENOENT"},
	"learn_the_umask":             {inside: "022", outside: anything},
	"type_into_a_terminal":        {inside: "ENOENT", root: true},
}

func TestAttacksFromInsideFailWhereTheAgentSucceeds(t *testing.T) {
	t.Parallel()
	isolated(t, func(t *testing.T, launcher sandbox.Launcher) {
		given := prey(t)
		outside := fromOutside(t, given)
		other := neighbour(t, launcher)
		defer func() {
			other.unharmed(t)
			untouched(t, given)
		}()
		if kindOf(launcher) != "gvisor" {
			compare(t, launcher, fromInside(t, launcher, given), outside, nil)
			return
		}
		given["without"] = []string{suicide}
		inside := fromInside(t, launcher, given)
		delete(given, "without")
		given["only"] = []string{suicide}
		spec := attacker(t, given)
		spec.Name += "-" + suicide
		_, out, exit := run(t, launcher, spec)
		inside[suicide] = out + exit.String()
		const mounts = "see_mounts_that_are_too_open"
		inside[mounts] = strings.NewReplacer(given["sdk"].(string), "SDK", given["scratch"].(string), "SCRATCH").Replace(inside[mounts])
		instead := maps.Clone(inGVisor)
		if launcher.Isolation().UID == "shared" {
			maps.Copy(instead, asRootInGVisor)
		}
		compare(t, launcher, inside, outside, instead)
	})
}

// suicide is the attack that ends a sandbox where process 1 is the program.
const suicide = "signal_process_1"

// inGVisor are the answers that gVisor's kernel gives instead, with why each is
// harmless. None of them has reached the machine's kernel.
var inGVisor = map[string]string{
	// The program is process 1, and its children may do with it what they like.
	"write_to_a_descriptor_of_process_1": "ok",
	suicide:                              "SIGKILL",
	"read_the_memory_of_process_1":       "EACCES",
	"write_the_memory_of_process_1":      "EACCES",
	"read_the_environment_of_process_1":  "ok",
	"read_the_maps_of_process_1":         "ok",
	"open_the_program_of_process_1":      "ok",
	"open_the_root_of_process_1":         "ok",
	"open_a_namespace_of_process_1":      "ok",
	"replace_process_1":                  "ENOENT", // it has no program of ours
	// These rights are asked for before it is seen that nobody may write there.
	"write_beside_the_system":          "EACCES",
	"write_to_the_system":              "EACCES",
	"make_a_file_in_a_listed_folder":   "EACCES",
	"change_the_mode_of_a_listed_file": "EPERM",
	// What these change or open is that kernel's own; nothing of it is the machine's.
	"clone3_plain":                "ok",
	"clone3_user":                 "ok",
	"be_nicer_to_oneself":         "ok",
	"escape_when_memory_runs_out": "ok", // all of the sandbox is one to the machine
	"run_in_real_time":            "EINVAL",
	"call_by_x32":                 "EPERM",
	"type_into_a_terminal":        "ENXIO",
	"find_the_machines_files":     "/sys /dev/pts /dev/tty",
	"find_devices":                "/dev/full /dev/fuse /dev/net/tun /dev/null /dev/pts/ptmx /dev/random /dev/tty /dev/urandom /dev/zero",
	"learn_about_the_machine":     "cgroups cmdline cpuinfo devices filesystems gvisor loadavg meminfo sentry-meminfo stat sys uptime version",
	"learn_the_environment":       "HOME LC_CTYPE ONLY",
	// It does not tell of these flags, and what is writable is in its memory.
	"see_mounts_that_are_too_open": "/ lacks nodev,nosuid; /sys lacks nodev,nosuid,ro; /sys is a sysfs; /dev lacks nodev,ro; /tmp lacks nodev; /proc lacks nodev,noexec,nosuid; /dev/pts lacks nodev,nosuid,ro; /dev/pts is a devpts; /dev/shm lacks nodev; SDK lacks nodev; SCRATCH lacks nodev",
}

func TestAttacksFromInsideACellFailWhereTheAgentSucceeds(t *testing.T) {
	t.Parallel()
	isolated(t, func(t *testing.T, launcher sandbox.Launcher) {
		if namespaces, ok := launcher.(*sandbox.Namespaces); ok {
			given := prey(t)
			outside := fromOutside(t, given)
			compare(t, launcher, fromInsideACell(t, namespaces, given), outside, inACell)
		}
	})
}

func TestTheSameHoldsWhereNoReaperIsWrittenForTheMachine(t *testing.T) {
	t.Parallel()
	isolated(t, func(t *testing.T, launcher sandbox.Launcher) {
		namespaces, ok := launcher.(*sandbox.Namespaces)
		if !ok {
			return
		}
		namespaces.WithoutReaper()
		given := prey(t)
		outside := fromOutside(t, given)
		compare(t, launcher, fromInsideACell(t, namespaces, given), outside, inACell)
		untouched(t, given)
		for _, spec := range []sandbox.Spec{script(t, daemon+"sys.exit(3)"), script(t, daemon+"os.kill(os.getpid(), 11)")} {
			box, _, exit := run(t, launcher, spec)
			must(t, box.Close())
			if _, exitOfCell := runInACell(t, namespaces, sandbox.Limits{}, spec.Argv); exit.OK() || exitOfCell != exit {
				t.Errorf("what leaves a daemon behind has ended with %s and %s", exit, exitOfCell)
			}
		}
	})
}

// inACell are the answers that a cell may give instead.
var inACell = map[string]string{
	"signal_process_1":             "EPERM",
	"write_to_the_code":            "EACCES",
	"run_a_setuid_program":         "1001",           // each cell has a user of its own
	"see_mounts_that_are_too_open": "/code lacks ro", // the agent writes there; those inside may not, see write_to_the_code
}

// asRootInGVisor are the answers where an ordinary user has only itself to
// give, which is root in there: without any capability, and no other user.
var asRootInGVisor = map[string]string{
	"be_root":              "ok",
	"become_root":          "ok",
	"become_another_user":  "EPERM",
	"run_a_setuid_program": "0",
}

// compare checks what came of the attacks.
func compare(t *testing.T, launcher sandbox.Launcher, inside, outside, instead map[string]string) {
	t.Helper()
	for name := range inside {
		if _, ok := attacks[name]; !ok {
			t.Errorf("nothing is said of the attack %s", name)
		}
	}
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := attack.inside
			if attack.shared != "" && launcher.Isolation().UID == "shared" {
				want = attack.shared
			}
			if other, ok := instead[name]; ok && inside[name] == other {
				want = other
			}
			if inside[name] != want {
				t.Errorf("%s: inside it is %q, not %q", name, inside[name], want)
			}
			if attack.outside == "" {
				attack.outside = "ok"
			}
			if attack.outside != anything && outside[name] != attack.outside && (os.Geteuid() == 0 || !attack.root) {
				t.Errorf("outside it is %q, not %q: the attack proves nothing", outside[name], attack.outside)
			}
		})
	}
}

// isolated runs a test with each launcher that keeps programs apart.
func isolated(t *testing.T, test func(t *testing.T, launcher sandbox.Launcher)) {
	t.Helper()
	if _, err := os.Stat(python); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("the attacks are written in Python, which this machine does not have")
	}
	each(t, func(t *testing.T, launcher sandbox.Launcher) {
		if launcher.Isolation().Kind == "none" {
			return // plain processes are not kept from anything, and say so
		}
		test(t, launcher)
	})
}

// prey is what there is to attack, all of it there and open to the agent.
func prey(t *testing.T) map[string]any {
	t.Helper()
	dir := openDir(t)
	given := map[string]any{
		"secret": filepath.Join(dir, "secret"), "tenant": filepath.Join(dir, "tenant"), "sdk": filepath.Join(dir, "sdk"),
		"scratch": filepath.Join(dir, "scratch"), "socket": filepath.Join(dir, "socket"), "setuid": filepath.Join(dir, "sdk", "id"),
		"abstract": fmt.Sprintf("warpket-%d-%s", os.Getpid(), t.Name()), "pid": os.Getpid(),
	}
	for _, name := range []string{"tenant", "sdk", "scratch"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	for name, mode := range map[string]os.FileMode{"secret": 0o600, "sdk/private": 0o600, "sdk/open": 0o666} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("secret"), mode))
		must(t, os.Chmod(filepath.Join(dir, name), mode))
	}
	copyFile(t, "testdata/attack.py", filepath.Join(dir, "sdk", "attack.py"), 0o644)
	copyFile(t, "/usr/bin/id", filepath.Join(dir, "sdk", "id"), 0o755)
	must(t, os.Chmod(filepath.Join(dir, "sdk", "id"), 0o755|os.ModeSetuid))
	given["port"] = listen(t, "tcp4", "127.0.0.1:0").(*net.TCPAddr).Port
	given["port6"] = listen(t, "tcp6", "[::1]:0").(*net.TCPAddr).Port
	listen(t, "unix", "@"+given["abstract"].(string))
	listen(t, "unix", given["socket"].(string))
	given["memory"] = os.Getpid()<<8 | int(segments.Add(1))
	memory, err := unix.SysvShmGet(given["memory"].(int), 1, unix.IPC_CREAT|unix.IPC_EXCL|0o666)
	must(t, err)
	t.Cleanup(func() {
		_, err := unix.SysvShmCtl(memory, unix.IPC_RMID, nil)
		must(t, err)
	})
	return given
}

// untouched looks at what there was to attack, which nobody may have changed.
func untouched(t *testing.T, given map[string]any) {
	t.Helper()
	sdk := given["sdk"].(string)
	for path, mode := range map[string]os.FileMode{given["secret"].(string): 0o600, sdk + "/private": 0o600, sdk + "/open": 0o666} {
		content, err := os.ReadFile(path)
		must(t, err)
		info, err := os.Stat(path)
		must(t, err)
		if string(content) != "secret" || info.Mode() != mode {
			t.Errorf("%s is %q, %s", path, content, info.Mode())
		}
	}
	for folder, want := range map[string]int{sdk: 4, given["tenant"].(string): 0} {
		if entries, err := os.ReadDir(folder); err != nil || len(entries) != want {
			t.Errorf("%s has %v, %v", folder, entries, err)
		}
	}
	if n, err := unix.Getpriority(unix.PRIO_PROCESS, os.Getpid()); err != nil || n != niceness {
		t.Errorf("the agent's priority is %d, not %d, %v", n, niceness, err)
	}
}

// niceness is this process's priority as the kernel gives it when it begins.
var niceness = func() int {
	n, _ := unix.Getpriority(unix.PRIO_PROCESS, os.Getpid())
	return n
}()

var segments atomic.Int64 // of shared memory, each with a key of its own

// fromInside runs the attacks in a sandbox.
func fromInside(t *testing.T, launcher sandbox.Launcher, given map[string]any) map[string]string {
	t.Helper()
	_, out, _ := run(t, launcher, attacker(t, given))
	return answers(t, []byte(out))
}

func attacker(t *testing.T, given map[string]any) sandbox.Spec {
	t.Helper()
	return sandbox.Spec{
		Name: t.Name(), Argv: attackers(t, given, false), Env: []string{"ONLY=this"}, Dir: "/",
		ReadOnly: []string{given["sdk"].(string)}, Writable: []string{given["scratch"].(string)},
		Limits: sandbox.Limits{Memory: 256 << 20, Processes: 64, OpenFiles: 64},
	}
}

// fromOutside runs the attacks as the agent; that on setuid programs as another user.
func fromOutside(t *testing.T, given map[string]any) map[string]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), python, attackers(t, given, true)[1:]...)
	out, err := cmd.Output()
	must(t, err)
	result := answers(t, out)
	if os.Geteuid() == 0 {
		cmd := exec.CommandContext(t.Context(), given["setuid"].(string), "-u")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		uid, err := cmd.Output()
		must(t, err)
		result["run_a_setuid_program"] = strings.TrimSpace(string(uid))
	} else {
		result["run_a_setuid_program"] = "0" // takes root to make one
	}
	return result
}

func attackers(t *testing.T, given map[string]any, outside bool) []string {
	t.Helper()
	given["outside"] = outside
	b, err := json.Marshal(given)
	must(t, err)
	return []string{python, "-I", "-B", filepath.Join(given["sdk"].(string), "attack.py"), string(b)}
}

func answers(t *testing.T, out []byte) (result map[string]string) {
	t.Helper()
	if err := json.Unmarshal(out, &result); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return result
}

const nobody = 65_534

// TestAllOfThisHoldsForAnOrdinaryUser runs every test again as one.
func TestAllOfThisHoldsForAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("this is one")
	}
	dir := openDir(t)
	binary := filepath.Join(dir, "sandbox.test")
	// By another process: what is open for writing here, a child started meanwhile would keep so.
	must(t, exec.CommandContext(t.Context(), "cp", os.Args[0], binary).Run())
	must(t, os.Chmod(binary, 0o755))
	must(t, os.CopyFS(filepath.Join(dir, "testdata"), os.DirFS("testdata")))
	must(t, os.CopyFS(filepath.Join(dir, "harness"), os.DirFS(harness)))
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(arg string) bool {
		return strings.HasPrefix(arg, "-test.paniconexit0") || strings.HasPrefix(arg, "-test.testlogfile") || strings.HasPrefix(arg, "-test.gocoverdir") || strings.HasPrefix(arg, "-test.coverprofile")
	})
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// openDir is a folder that every user can reach.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "warpket-test-")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

func copyFile(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	b, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, b, mode))
}

func listen(t *testing.T, network, address string) net.Addr {
	t.Helper()
	l, err := net.Listen(network, address)
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

package warpket_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/warpket/warpket"
)

func TestRequirementsArePackagesAndNothingElse(t *testing.T) {
	t.Parallel()
	taken := []string{
		"six", "six==1.16.0", "six == 1.16.0", "scipy>=1.11,<2", "scipy (>=1.11)", "qiskit-aer~=0.13", "uvicorn[standard]", "a[b,c-d]>=1", "x===1!2.0+local", "numpy!=1.2.*",
		`tomli; python_version < "3.11"`, `a>=1 ; sys_platform == 'linux' and (python_version >= "3.10" or os_name != "nt")`,
		`a; "arm" in platform_machine`, `a; platform_machine not in "x86 arm"`, `a ; extra == "x"`,
	}
	for _, line := range taken {
		if got, err := warpket.ParseRequirements(line + "\n"); err != nil || !slices.Equal(got, []string{line}) {
			t.Errorf("%s: %q, %v", line, got, err)
		}
	}
	refused := []string{
		"-r other.txt", "--index-url https://evil", "-e .", "--hash=sha256:0", "six --hash=sha256:0", "six @ https://evil/six.whl", "six@file:///etc", "https://evil/six.whl",
		"git+https://evil/six", "./six", "../six", "/six", "~/six", ".", "six.whl/..", "six==1 \\", "six 1.16", "six=1.16", "six==", "six>=1,,<2", "six==1;", "six; evil",
		`six; python_version`, `six; python_version < 3.11`, `six; "a" == "b"`, `six; (python_version < "3"`, `six; python_version < "3")`, `six; python_version < "3" and`,
		`six; __import__("os")`, "six[", "six[a", "six[a b]", "six[-r]", "six\x00", "sïx", "$(id)", "six;python_version<\"3\"; os_name==\"nt\"", "{six}", "C:\\six", "six==1.0 ; " + strings.Repeat("(", 50),
		strings.Repeat("x", 1001),
	}
	for _, line := range refused {
		got, err := warpket.ParseRequirements("# fine\n\n" + line)
		if warpket.KindOf(err) != warpket.Invalid || !strings.Contains(err.Error(), "line 3") {
			t.Errorf("%q: %q, %v", line, got, err)
		}
	}
}

func TestRequirementsAreTheSameInAnyOrderAndDress(t *testing.T) {
	t.Parallel()
	one, err := warpket.ParseRequirements("\ufeff# what it needs\r\nsix==1.16.0  # pinned\r\n\r\nscipy\r\nsix==1.16.0\r\n")
	if err != nil {
		t.Fatal(err)
	}
	two, err := warpket.ParseRequirements("scipy\nsix==1.16.0")
	if err != nil || !slices.Equal(one, two) {
		t.Errorf("%q and %q, %v", one, two, err)
	}
	if none, err := warpket.ParseRequirements("\n# nothing\n"); len(none) != 0 || err != nil {
		t.Errorf("%q, %v", none, err)
	}
	many := strings.Builder{}
	for i := range 201 {
		many.WriteString("p" + strings.Repeat("x", i) + "\n")
	}
	if _, err := warpket.ParseRequirements(many.String()); warpket.KindOf(err) != warpket.Invalid || !strings.Contains(err.Error(), "200") {
		t.Errorf("too many: %v", err)
	}
}

func TestARuntimeWithRequirementsIsItsProjectsAlone(t *testing.T) {
	t.Parallel()
	shared := warpket.Runtime{
		RuntimeKey: warpket.RuntimeKey{SDK: "qiskit", SDKVersion: "0.45.3", Python: "3.11", Platform: "linux/amd64"},
		Status:     warpket.RuntimeAvailable, Lock: "qiskit==0.45.3",
	}
	mine, theirs := shared.Requiring("one", []string{"six"}), shared.Requiring("two", []string{"six"})
	if mine.String() == theirs.String() || mine.String() == shared.String() || mine.ProjectID != "one" {
		t.Errorf("%s and %s", mine, theirs)
	}
	if mine.String() != shared.Requiring("one", []string{"six"}).String() {
		t.Error("the same requirements are another runtime")
	}
	if mine.Status != warpket.RuntimePending || mine.Lock != "" {
		t.Errorf("it counts as built: %+v", mine)
	}
	if back := mine.Requiring("one", nil); back.RuntimeKey != shared.RuntimeKey || back.ProjectID != "" || back.Lines != nil {
		t.Errorf("without requirements it is %+v", back)
	}
}

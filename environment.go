package warpket

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// StoredSecret is a value that a project keeps for its functions and never gets
// back. Only the ciphertext of the value is kept.
type StoredSecret struct {
	ID          ID
	ProjectID   ID
	Name        string
	UsedBy      []string // names of the functions whose environment, or credentials, refer to it
	CreatedDate time.Time
	UpdatedDate time.Time
}

// Environment is what a function's code finds in its environment variables.
type Environment struct {
	Variables map[string]string // values by variable
	Secrets   map[string]string // names of secrets by variable
}

// Bounds of an environment and of a secret.
const (
	MaxVariables   = 100
	MaxEnvironment = 128 << 10 // bytes of all names and values, those of secrets included
	MaxSecretValue = 64 << 10
)

var (
	secretForm   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)
	variableForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,254}$`)
)

// CheckSecret checks the name and the value of a secret. The error does not
// tell the value.
func CheckSecret(name, value string) error {
	if !secretForm.MatchString(name) {
		return Errorf(Invalid, "%.80q cannot name a secret: use 1 to 64 of A-Z, a-z, 0-9 and _, not starting with a digit", name).At("name")
	}
	if len(value) > MaxSecretValue {
		return Errorf(TooLarge, "the value has %d bytes; a secret has at most %d (64 KiB)", len(value), MaxSecretValue).At("value")
	}
	if strings.ContainsRune(value, 0) {
		return Errorf(Invalid, "the value has a NUL character, which no environment variable can hold: encode it, for example as base64").At("value")
	}
	return nil
}

// What a worker sets itself, or what would change the worker instead of the
// function's code.
var (
	reserved = []string{
		"PATH", "HOME", "TMPDIR", "LANG", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "QISKIT_PARALLEL", "XDG_CACHE_HOME",
	}
	reservedPrefixes = []string{"LD_", "PYTHON", "WARPKET_"}
)

// Check reports what of the environment cannot be. sizes are the bytes of the
// secrets' values by name; a secret that has none there does not count.
func (e Environment) Check(sizes map[string]int) error {
	if n := len(e.Variables) + len(e.Secrets); n > MaxVariables {
		return Errorf(Invalid, "an environment has at most %d variables, not %d", MaxVariables, n)
	}
	var refused []string
	total := 0
	for _, part := range []struct {
		field  string
		values map[string]string
	}{{"variables", e.Variables}, {"secrets", e.Secrets}} {
		for _, name := range slices.Sorted(maps.Keys(part.values)) {
			if !variableForm.MatchString(name) {
				return Errorf(Invalid, "%.80q cannot name a variable: use at most 255 of A-Z, a-z, 0-9 and _, not starting with a digit", name).At("%s", part.field)
			}
			if slices.Contains(reserved, name) || slices.ContainsFunc(reservedPrefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
				refused = append(refused, name)
			}
			total += len(name) + 2 // as the kernel counts: with = and an end
		}
	}
	if len(refused) > 0 {
		return Errorf(Invalid, "these variables are set by the worker and cannot be yours: %s (nor can others that start with %s): choose other names",
			strings.Join(refused, ", "), strings.Join(reservedPrefixes, ", "))
	}
	for name, value := range e.Variables {
		if _, both := e.Secrets[name]; both {
			return Errorf(Invalid, "%s is there twice, as a variable and as a secret: leave one out", name).At("secrets.%s", name)
		}
		if strings.ContainsRune(value, 0) {
			return Errorf(Invalid, "the value of %s has a NUL character, which no environment variable can hold", name).At("variables.%s", name)
		}
		total += len(value)
	}
	for _, secret := range e.Secrets {
		total += sizes[secret]
	}
	if total > MaxEnvironment {
		return Errorf(Invalid, "the environment has %d bytes with the values of its secrets; at most %d (128 KiB) are passed to a worker: put large data into the function's files", total, MaxEnvironment)
	}
	return nil
}

// Equal reports whether both say the same.
func (e Environment) Equal(other Environment) bool {
	return maps.Equal(e.Variables, other.Variables) && maps.Equal(e.Secrets, other.Secrets)
}

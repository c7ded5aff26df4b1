package warpket

// Template is a starter for functions: one for each language tag.
type Template struct {
	Tag             string // such as "Qiskit"; unique
	SDK             string // package name, or "python" for the plain interpreter
	DefaultVersion  string // empty: the newest release
	OldestVersion   string // releases before it are refused
	Description     string
	Entry           string // "module.function"
	Targets         []Target
	Wheels          []string          // packages whose wheels decide which Python fits a release
	Requirements    map[string]string // more packages that come with the SDK: name to version specifiers, which may be empty
	LockWindowWeeks int               // how long after a release its dependencies may have been released
	Smoke           string            // program that a fresh runtime must run before it is used
	Files           []TemplateFile
}

// TemplateFile is one file that a template starts a function with.
type TemplateFile struct {
	Filename string
	Language string
	Content  string
}

// Target is where an execution runs.
type Target string

// The targets.
const (
	Simulator Target = "simulator" // a quantum simulator on a node's cores
	GPU       Target = "gpu"       // an NVIDIA GPU
	Compile   Target = "compile"   // the compiler only
	Sim       Target = "sim"       // a simulated GPU, for small functional checks
	CPU       Target = "cpu"       // a node's cores, nothing else
)

package warpket

import (
	"fmt"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Resources are what a worker may use, and what its slot asks of a node. The
// zero value of a field asks for nothing.
type Resources struct {
	CPU     int           `json:"cpu"`     // thousandths of a core
	Memory  int64         `json:"memory"`  // bytes
	Timeout time.Duration `json:"timeout"` // of one execution

	GPUs              int    `json:"gpus,omitempty"`              // devices that the slot holds alone: whole GPUs, or MIG instances if a profile is named
	GPUMemory         int64  `json:"gpuMemory,omitempty"`         // bytes that each of them has at least
	MIGProfile        string `json:"migProfile,omitempty"`        // "1g.10gb": instances of this profile in place of whole GPUs
	ComputeCapability string `json:"computeCapability,omitempty"` // least of each of them, "8.0"
	CUDA              string `json:"cuda,omitempty"`              // least CUDA version that their driver must take, "13.0"
	Device            string `json:"device,omitempty"`            // ID of the one device that it has to be

	Qubits int    `json:"qubits,omitempty"` // of the simulation, which decides how much memory it needs
	Method Method `json:"method,omitempty"` // of the simulation; a statevector unless set

	Labels    map[string]string `json:"labels,omitempty"`    // that the node must have
	Spread    Spread            `json:"spread,omitempty"`    // whether slots of one deployment share nodes
	Isolation string            `json:"isolation,omitempty"` // least kind of Isolation
	Priority  int               `json:"priority,omitempty"`  // higher goes first, and may take the slots of lower
	Network   Network           `json:"network,omitempty"`   // Egress if its node must have a network for functions
}

// DefaultResources are what a function gets that asks for nothing.
var DefaultResources = Resources{CPU: 1000, Memory: 512 << 20, Timeout: time.Minute}

// Bounds of resources.
const (
	MaxMemory   = 4 << 40 // bytes of a slot
	MaxGPUs     = 64      // of one slot
	MaxQubits   = 4096    // of a simulation
	MaxPriority = 100     // and the least is its negative
	maxAsked    = 16      // labels that a node must have
)

// Spread says whether the slots of one deployment may share a node.
type Spread string

// How slots of one deployment spread.
const (
	Packed        Spread = ""        // where the least is left over
	PreferSpread  Spread = "prefer"  // on different nodes as far as there is room
	RequireSpread Spread = "require" // never two on one node
)

// isolations are the kinds of Isolation, the weakest first.
var isolations = []string{"none", "namespaces", "gvisor"}

// AtLeast reports whether the isolation is of this kind or a stronger one.
func (i Isolation) AtLeast(kind string) bool {
	return kind == "" || slices.Index(isolations, i.Kind) >= slices.Index(isolations, kind)
}

// Or fills what r leaves open from other.
func (r Resources) Or(other Resources) Resources {
	fill(&r.CPU, other.CPU)
	fill(&r.Memory, other.Memory)
	fill(&r.Timeout, other.Timeout)
	fill(&r.GPUs, other.GPUs)
	fill(&r.GPUMemory, other.GPUMemory)
	fill(&r.MIGProfile, other.MIGProfile)
	fill(&r.ComputeCapability, other.ComputeCapability)
	fill(&r.CUDA, other.CUDA)
	fill(&r.Device, other.Device)
	fill(&r.Qubits, other.Qubits)
	fill(&r.Method, other.Method)
	fill(&r.Spread, other.Spread)
	fill(&r.Isolation, other.Isolation)
	fill(&r.Priority, other.Priority)
	fill(&r.Network, other.Network)
	if r.Labels == nil {
		r.Labels = other.Labels
	}
	return r
}

func fill[T comparable](field *T, other T) {
	var zero T
	if *field == zero {
		*field = other
	}
}

// For gives what an execution or slot with this target needs, and checks it.
// The target gpu takes at least one GPU. The targets compile and sim take none:
// it is an error to ask for one explicitly, and what a function asks for by
// itself is left out. Others take what is asked for. A simulation gets at least
// the memory that its method needs, on the GPUs if it has any.
func (r Resources) For(target Target, explicit Resources) (Resources, error) {
	switch {
	case target == Compile || target == Sim:
		if explicit.asksGPU() {
			return r, Errorf(Invalid, "the target %s has no GPU: ask for the target gpu, or leave out gpus, gpuMemory, migProfile, computeCapability and cuda", target).At("resources.gpus")
		}
		r.GPUs, r.GPUMemory, r.MIGProfile, r.ComputeCapability, r.CUDA = 0, 0, "", "", ""
	case target == GPU || r.asksGPU():
		r.GPUs = max(r.GPUs, 1)
	}
	if r.Qubits > 0 && r.Method == "" {
		r.Method = Statevector
	}
	if err := r.Check(); err != nil || r.Qubits == 0 {
		return r, err
	}
	if r.GPUs > 0 {
		state := r.Method.Memory(r.Qubits)
		r.GPUMemory = max(r.GPUMemory, state/int64(r.GPUs))
		if r.GPUMemory > MaxMemory {
			return r, r.tooManyQubits(fmt.Sprintf("more than %d GPUs may hold", r.GPUs))
		}
		return r, nil
	}
	if r.Memory = max(r.Memory, saturated(r.Method.Memory(r.Qubits), simulationBase)); r.Memory > MaxMemory {
		return r, r.tooManyQubits("more than any slot may have")
	}
	return r, nil
}

// WithDriver has GPUs that are asked for be ones whose driver supports at least
// a CUDA version; it may be empty.
func (r Resources) WithDriver(cuda string) Resources {
	if r.GPUs > 0 && Older(r.CUDA, cuda) {
		r.CUDA = cuda
	}
	return r
}

// Target is where something runs that names no target: on a GPU if it asks for
// one and may run there, else on the first of its targets.
func (r Resources) Target(targets []Target) Target {
	if r.asksGPU() && slices.Contains(targets, GPU) {
		return GPU
	}
	return targets[0]
}

func (r Resources) asksGPU() bool {
	return r.GPUs > 0 || r.GPUMemory > 0 || r.MIGProfile != "" || r.ComputeCapability != "" || r.CUDA != ""
}

func (r Resources) tooManyQubits(bound string) error {
	return Errorf(Invalid, "a %s of %d qubits needs %s, %s%s", r.Method, r.Qubits, r.Method.Needs(r.Qubits), bound, Fitting(r.Qubits, func(m Method) bool { return m.Memory(r.Qubits) <= MaxMemory-simulationBase })).At("resources.qubits")
}

// Cover reports whether a slot with r has what other asks for. Whether its
// node still has it is not asked: a slot keeps what it was leased with.
func (r Resources) Cover(other Resources) bool {
	return r.CPU >= other.CPU && r.Memory >= other.Memory &&
		r.GPUs >= other.GPUs && r.GPUMemory >= other.GPUMemory && (other.GPUs == 0 || r.MIGProfile == other.MIGProfile) &&
		!Older(r.ComputeCapability, other.ComputeCapability) && !Older(r.CUDA, other.CUDA) && (other.Device == "" || r.Device == other.Device) &&
		(other.Method == "" || other.GPUs > 0 || r.Method == other.Method) &&
		Isolation{Kind: r.Isolation}.AtLeast(other.Isolation) && holds(r.Labels, other.Labels)
}

// Plain reports whether r asks for cores and memory only.
func (r Resources) Plain() bool {
	return !r.asksGPU() && r.Device == "" && r.Method == "" && r.Isolation == "" && len(r.Labels) == 0
}

// holds reports whether all of some labels are among others.
func holds(labels, some map[string]string) bool {
	for k, v := range some {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// HasLabels reports whether the node has all of these labels.
func (n Node) HasLabels(labels map[string]string) bool { return holds(n.Labels, labels) }

var (
	migForm     = regexp.MustCompile(`^[1-9]g\.[1-9][0-9]{0,3}gb(\+[a-z0-9.]{1,16})?$`)
	versionForm = regexp.MustCompile(`^[0-9]{1,3}\.[0-9]{1,3}$`)
)

// Check reports what of r is out of bounds.
func (r Resources) Check() error {
	bad := func(field, format string, args ...any) error {
		return Errorf(Invalid, format, args...).At("resources.%s", field)
	}
	switch {
	case r.CPU < 10 || r.CPU > 256_000:
		return bad("cpu", "cpu is in thousandths of a core, from 10 to 256000, not %d", r.CPU)
	case r.Memory < 16<<20 || r.Memory > MaxMemory:
		return bad("memory", "memory is in bytes, from 16777216 (16 MiB) to 4398046511104 (4 TiB), not %d", r.Memory)
	case r.Timeout < time.Millisecond || r.Timeout > 24*time.Hour:
		return bad("timeout", "timeout is in seconds, from 0.001 to 86400 (24 h), not %g", r.Timeout.Seconds())
	case r.GPUs < 0 || r.GPUs > MaxGPUs:
		return bad("gpus", "gpus is from 0 to %d, not %d", MaxGPUs, r.GPUs)
	case r.GPUMemory < 0 || r.GPUMemory > MaxMemory:
		return bad("gpuMemory", "gpuMemory is in bytes of each GPU, up to 4398046511104 (4 TiB), not %d", r.GPUMemory)
	case r.MIGProfile != "" && !migForm.MatchString(r.MIGProfile):
		return bad("migProfile", "migProfile %q is not of the form 1g.10gb", r.MIGProfile)
	case r.ComputeCapability != "" && !versionForm.MatchString(r.ComputeCapability):
		return bad("computeCapability", "computeCapability %q is not of the form 9.0", r.ComputeCapability)
	case r.CUDA != "" && !versionForm.MatchString(r.CUDA):
		return bad("cuda", "cuda %q is not of the form 13.0", r.CUDA)
	case len(r.Device) > 128 || strings.ContainsFunc(r.Device, func(c rune) bool { return c <= ' ' || c > '~' }):
		return bad("device", "device is the ID of a device, see GET /v1/devices")
	case r.Device != "" && r.GPUs > 1:
		return bad("device", "device is one device, and gpus asks for %d", r.GPUs)
	case r.Qubits < 0 || r.Qubits > MaxQubits:
		return bad("qubits", "qubits is from 1 to %d, not %d", MaxQubits, r.Qubits)
	case r.Method != "" && !slices.Contains(Methods, r.Method):
		return bad("method", "there is no simulation method %q: use one of %s", r.Method, words(Methods))
	case r.Spread != Packed && r.Spread != PreferSpread && r.Spread != RequireSpread:
		return bad("spread", "spread is prefer or require, not %q", r.Spread)
	case r.Isolation != "" && !slices.Contains(isolations, r.Isolation):
		return bad("isolation", "isolation is one of %s, not %q", strings.Join(isolations, ", "), r.Isolation)
	case r.Priority < -MaxPriority || r.Priority > MaxPriority:
		return bad("priority", "priority is from %d to %d, not %d", -MaxPriority, MaxPriority, r.Priority)
	}
	return checkAsked(r.Labels)
}

func checkAsked(labels map[string]string) error {
	if len(labels) > maxAsked {
		return Errorf(Invalid, "there are %d labels; a node can be asked for %d at most", len(labels), maxAsked).At("resources.labels")
	}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if !labelName.MatchString(k) || !labelValue.MatchString(labels[k]) {
			return Errorf(Invalid, "%q=%q is no label of a node: names are up to 63 letters, digits and . _ - /, values the same without /", k, labels[k]).At("resources.labels")
		}
	}
	return nil
}

// Charge is how much of a fleet a slot with r keeps from others, in cores: the
// larger of its cores and its share of memory, at 4 GiB a core, and 16 for each
// GPU. A MIG instance counts as the sevenths of its GPU that its profile names.
func (r Resources) Charge() float64 {
	gpus := float64(r.GPUs)
	if r.MIGProfile != "" {
		gpus *= float64(r.MIGProfile[0]-'0') / 7
	}
	return max(float64(r.CPU)/1000, float64(r.Memory)/(4<<30)) + 16*gpus
}

// OfNode is the cores and the memory that a slot with these devices has of its
// node. They are none where it holds devices but no GPU: that is a simulator
// which is only declared, with cores and memory of its own.
func (r Resources) OfNode(devices []string) (cpu int, memory int64) {
	if len(devices) > 0 && r.GPUs == 0 {
		return 0, 0
	}
	return r.CPU, r.Memory
}

// Older reports whether one version, such as "8.6", comes before another.
// Everything but the empty one comes after the empty one.
func Older(version, than string) bool { return VersionNumber(version) < VersionNumber(than) }

// VersionNumber orders versions of the form major.minor; it is negative for
// what is none.
func VersionNumber(version string) int {
	major, minor, _ := strings.Cut(version, ".")
	a, err := strconv.Atoi(major)
	if err != nil {
		return -1
	}
	b, _ := strconv.Atoi(minor) // none is 0
	return a*1000 + b
}

// Method is a way of simulating a quantum computer.
type Method string

// The methods of simulation.
const (
	Statevector        Method = "statevector"
	DensityMatrix      Method = "density_matrix"
	Stabilizer         Method = "stabilizer" // Clifford circuits only
	MatrixProductState Method = "matrix_product_state"
)

// Methods are all methods of simulation.
var Methods = []Method{Statevector, DensityMatrix, Stabilizer, MatrixProductState}

// MaxBond is the bond dimension up to which a matrix product state is planned
// for. Circuits that entangle more need a larger one, or are truncated.
const MaxBond = 1024

// simulationBase is what a simulator's process needs besides the state.
const simulationBase = 256 << 20

// Memory is how many bytes a state of so many qubits takes, or the largest
// int64 when it is more. A statevector has 2^n amplitudes of 16 bytes, a
// density matrix 4^n. A stabilizer state is a tableau of (2n+1)² bits. A matrix
// product state has two complex matrices for each qubit, as large as the
// bonds to its neighbours, which double from each end up to MaxBond.
func (m Method) Memory(qubits int) int64 {
	b := m.bytes(qubits)
	if !b.IsInt64() {
		return 1<<63 - 1
	}
	return b.Int64()
}

func (m Method) bytes(qubits int) *big.Int {
	b := new(big.Int)
	switch m {
	case DensityMatrix:
		return b.Lsh(big.NewInt(16), uint(2*qubits))
	case Stabilizer:
		side := int64(2*qubits + 1)
		return b.SetInt64((side*side + 7) / 8)
	case MatrixProductState:
		bond := func(cut int) int64 { return 1 << min(cut, qubits-cut, 10) }
		total := int64(0)
		for q := range qubits {
			total += 2 * 16 * bond(q) * bond(q+1)
		}
		return b.SetInt64(total)
	default:
		return b.Lsh(big.NewInt(16), uint(qubits))
	}
}

// Needs is Memory in words: "274877906944 bytes (256 GiB)".
func (m Method) Needs(qubits int) string {
	b := m.bytes(qubits)
	if b.BitLen() <= 10 {
		return b.String() + " bytes"
	}
	if b.BitLen() <= 80 {
		return fmt.Sprintf("%s bytes (%s)", b, sizeOf(b))
	}
	return fmt.Sprintf("2^%d bytes", b.BitLen()-1)
}

// SlotMemory is the memory of a slot for such a simulation.
func (m Method) SlotMemory(qubits int) int64 { return saturated(m.Memory(qubits), simulationBase) }

func saturated(a, b int64) int64 {
	if a > 1<<63-1-b {
		return 1<<63 - 1
	}
	return a + b
}

// Fitting is the end of a message that says which methods would fit for so
// many qubits, as fits tells.
func Fitting(qubits int, fits func(Method) bool) string {
	var out []string
	for _, m := range Methods {
		if !fits(m) {
			continue
		}
		text := fmt.Sprintf("%s (%s", m, m.Needs(qubits))
		switch m {
		case Stabilizer:
			text += ", Clifford circuits only"
		case MatrixProductState:
			text += fmt.Sprintf(" at a bond dimension of %d", MaxBond)
		default:
		}
		out = append(out, text+")")
	}
	if len(out) == 0 {
		return "; no other method would fit"
	}
	return "; these methods would fit: " + strings.Join(out, ", ")
}

// Size is a number of bytes in the largest unit that leaves it readable.
func Size(bytes int64) string { return sizeOf(big.NewInt(bytes)) }

func sizeOf(bytes *big.Int) string {
	const units = "KMGTPEZY"
	if bytes.BitLen() <= 10 {
		return bytes.String() + " bytes"
	}
	v, _ := new(big.Float).SetInt(bytes).Float64()
	u := 0
	for v /= 1 << 10; v >= 1024 && u < len(units)-1; u++ {
		v /= 1024
	}
	return strconv.FormatFloat(v, 'g', 4, 64) + " " + units[u:u+1] + "iB"
}

func words[T ~string](list []T) string {
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = string(w)
	}
	return strings.Join(out, ", ")
}

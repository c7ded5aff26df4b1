package warpket

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Function is a named piece of code that a project runs.
type Function struct {
	ID          ID
	ProjectID   ID
	Name        string
	Description string
	TemplateTag string // language tag of the template it was made from
	SDK         string // package name, such as "qiskit"
	SDKVersion  string // as released, such as "0.45.3"
	Settings    Settings
	NextVersion int    // the number that the next published version gets
	Revision    int    // grows with each change that slots have to be replaced for
	Image       *Image // of its newest version; nil for a function of files, whatever they run in
	CreatedDate time.Time
	UpdatedDate time.Time
	Label       string  // a freer name, not unique; may be empty
	Source      *Source // of its newest version's files; nil if they were given as such
	RuntimeID   ID      // the runtime that somebody created and that its versions get; may be empty
	InImage     bool    // whether that one is an image, in which its files run
}

// MaxLabel is the most characters that a function's label has.
const MaxLabel = 255

// CheckLabel checks the label of a function; there need not be one.
func CheckLabel(label string) error {
	switch {
	case utf8.RuneCountInString(label) > MaxLabel:
		return Errorf(Invalid, "a label has at most %d characters", MaxLabel).At("label")
	case !utf8.ValidString(label) || strings.ContainsFunc(label, unicode.IsControl):
		return Errorf(Invalid, "a label has no control characters").At("label")
	}
	return nil
}

// CheckDescription checks what people say of a thing, whatever it is.
func CheckDescription(description string) error { return checkText("description", description) }

// checkText refuses text that no database keeps.
func checkText(field, text string) error {
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return Errorf(Invalid, "a %s is UTF-8 without NUL characters", field).At("%s", field)
	}
	return nil
}

// Settings say how a function runs. They can be changed without a new version.
type Settings struct {
	Entry       string // "module.function"; empty for an image
	Lane        Lane   // empty: durable, and express through the gateway
	Reuse       Reuse
	Network     Network
	Retries     int // attempts after the first, 0 to 10
	Resources   Resources
	Credentials string // name of the secret that its images' registry asks for; may be empty
	Gateway     Gateway
}

// NewSettings are those of a function on which nothing was set but its entry.
func NewSettings(entry string) Settings {
	return Settings{Entry: entry, Reuse: ReuseProcess, Network: NoNetwork, Resources: DefaultResources, Gateway: GatewayToken}
}

// Gateway says for whom a function serves HTTP.
type Gateway string

// For whom a function serves HTTP.
const (
	GatewayOff    Gateway = "off"    // nobody
	GatewayToken  Gateway = "token"  // who may execute it
	GatewayPublic Gateway = "public" // everybody who knows its ID
)

// Lane says how an execution is driven.
type Lane string

// The lanes.
const (
	Durable Lane = "durable" // a Temporal workflow sees it through, whatever becomes of the servers
	Express Lane = "express" // the same without the workflow: the server drives it, and another goes on when that dies
)

// Network says what a function's code may reach.
type Network string

// The networks.
const (
	NoNetwork Network = "none"
	Egress    Network = "egress" // public addresses, through the node's proxy
)

// Reuse says whether a worker serves more than one execution.
type Reuse string

// Whether a process is kept between executions.
const (
	ReuseProcess Reuse = "process" // keep the worker, as Lambda does
	ReuseNone    Reuse = "none"    // a fresh worker for each execution
)

// NeedNewSlots reports whether slots that were prepared with old no longer do.
// The resources of a deployment are its own, and an execution picks a slot
// that covers its own; what else there is, the server reads for each execution.
func (s Settings) NeedNewSlots(old Settings) bool {
	return s.Reuse != old.Reuse || s.Network != old.Network
}

// CheckSettings reports what of its settings cannot be.
func (f Function) CheckSettings() error {
	switch {
	case f.Image != nil:
		return f.Settings.CheckForImage()
	case f.InImage:
		return f.Settings.CheckForFilesInImage()
	}
	return f.Settings.Check()
}

// Check reports what of the settings of a function of files cannot be.
func (s Settings) Check() error {
	module, function, ok := strings.Cut(s.Entry, ".")
	if !ok || !identifier(function) || !identifier(module) {
		return Errorf(Invalid, "entry %q is not of the form module.function, such as handler.handler", s.Entry).At("entry")
	}
	if s.Credentials != "" {
		return Errorf(Invalid, "credentials are for the registry of an image, and this function is made of files").At("credentials")
	}
	return s.check()
}

// CheckForImage reports what of the settings of a function that comes as an
// image cannot be.
func (s Settings) CheckForImage() error {
	if s.Entry != "" {
		return Errorf(Invalid, "an image has no entry: give a command with its version, or leave it out to run the image's own").At("entry")
	}
	if s.Credentials != "" && !secretForm.MatchString(s.Credentials) {
		return Errorf(Invalid, "credentials is the name of one of the project's secrets").At("credentials")
	}
	return s.check()
}

// CheckForFilesInImage reports what of the settings of a function of files cannot be
// whose runtime is an image: that decides what an entry is.
func (s Settings) CheckForFilesInImage() error {
	if len(s.Entry) > 257 || !printable(s.Entry) {
		return Errorf(Invalid, "entry is at most 257 bytes of printable characters, which the image finds in WARPKET_ENTRY").At("entry")
	}
	if s.Credentials != "" && !secretForm.MatchString(s.Credentials) {
		return Errorf(Invalid, "credentials is the name of one of the project's secrets").At("credentials")
	}
	return s.check()
}

func (s Settings) check() error {
	if s.Retries < 0 || s.Retries > 10 {
		return Errorf(Invalid, "retries is from 0 to 10, not %d", s.Retries).At("retries")
	}
	return s.Resources.Check()
}

func identifier(s string) bool {
	for i, c := range s {
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 128
}

package warpket

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// RequirementsFile is the file of a version that names the packages it needs
// besides its SDK.
const RequirementsFile = "requirements.txt"

// MaxRequirements is how many packages a version may name.
const MaxRequirements = 200

var (
	requirementForm = regexp.MustCompile(`^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(\[[^\]]*\])?\s*(.*)$`)
	extraForm       = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$`)
	specifierForm   = regexp.MustCompile(`^(~=|===|==|!=|<=|>=|<|>)\s*[A-Za-z0-9._*+!-]+$`)
	markerTokens    = regexp.MustCompile(`^\s*(\(|\)|'[^'\\]*'|"[^"\\]*"|~=|===|==|!=|<=|>=|<|>|[a-z_]+)`)
	comment         = regexp.MustCompile(`(^|\s)#.*$`)
)

var (
	markerOperators = []string{"~=", "===", "==", "!=", "<=", ">=", "<", ">", "in"}
	markerVariables = []string{
		"python_version", "python_full_version", "os_name", "sys_platform", "platform_release", "platform_system", "platform_version",
		"platform_machine", "platform_python_implementation", "implementation_name", "implementation_version", "extra",
	}
)

// ParseRequirements reads requirements.txt: one requirement as in PEP 508 on
// each line, a name with extras, version specifiers and markers, and nothing
// that makes an installer do anything else. They come back sorted, so that the
// same packages are the same runtime. The error tells the line.
func ParseRequirements(text string) ([]string, error) {
	var lines []string
	for i, line := range strings.Split(strings.TrimPrefix(text, "\ufeff"), "\n") {
		line = strings.TrimSpace(comment.ReplaceAllString(strings.TrimRight(line, "\r"), ""))
		if line == "" {
			continue
		}
		if err := checkRequirement(line); err != nil {
			return nil, Errorf(Invalid, "%s, line %d: %s", RequirementsFile, i+1, err.Error())
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	if lines = slices.Compact(lines); len(lines) > MaxRequirements {
		return nil, Errorf(Invalid, "%s names %d packages; at most %d are taken: leave out what the others need by themselves", RequirementsFile, len(lines), MaxRequirements)
	}
	return lines, nil
}

// checkRequirement says what is wrong with a line, in words that go on after
// its number.
func checkRequirement(line string) error {
	switch {
	case len(line) > 1000:
		return fmt.Errorf("a line has at most 1000 characters, not %d", len(line))
	case strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r > '~' }):
		return fmt.Errorf("%.80q has characters that no requirement has", line)
	case strings.HasPrefix(line, "-"):
		return fmt.Errorf("%.80q is an option of an installer; only packages are taken, such as \"scipy>=1.11\"", line)
	case strings.HasSuffix(line, `\`):
		return fmt.Errorf("%.80q goes on in the next line: write each requirement on one", line)
	case strings.Contains(line, "://") || strings.HasPrefix(line, ".") || strings.HasPrefix(line, "/") || strings.HasPrefix(line, "~"):
		return fmt.Errorf("%.80q is an address or a path; only packages of the index are taken, by their names", line)
	}
	requirement, marker, hasMarker := strings.Cut(line, ";")
	if hasMarker {
		if err := checkMarker(marker); err != nil {
			return err
		}
	}
	parts := requirementForm.FindStringSubmatch(strings.TrimSpace(requirement))
	if parts == nil {
		return fmt.Errorf("%.80q does not begin with the name of a package", line)
	}
	extras, specifiers := strings.Trim(parts[2], "[]"), parts[3]
	if strings.TrimSpace(extras) != "" {
		for extra := range strings.SplitSeq(extras, ",") {
			if !extraForm.MatchString(strings.TrimSpace(extra)) {
				return fmt.Errorf("%.80q names no extra", extra)
			}
		}
	}
	if strings.HasPrefix(specifiers, "@") {
		return fmt.Errorf("%.80q is an address; only packages of the index are taken, by their names", line)
	}
	if inner, ok := strings.CutPrefix(specifiers, "("); ok {
		if specifiers, ok = strings.CutSuffix(inner, ")"); !ok {
			return fmt.Errorf("%.80q has a parenthesis that does not end", line)
		}
	}
	if specifiers == "" {
		return nil
	}
	for specifier := range strings.SplitSeq(specifiers, ",") {
		if !specifierForm.MatchString(strings.TrimSpace(specifier)) {
			return fmt.Errorf("%.80q is no version specifier, such as \"==1.2.3\" or \">=1,<2\"", strings.TrimSpace(specifier))
		}
	}
	return nil
}

// checkMarker checks what follows a semicolon: comparisons of variables of the
// environment with texts, joined by and, or and parentheses.
func checkMarker(marker string) error {
	var tokens []string
	for rest := strings.TrimSpace(marker); rest != ""; rest = strings.TrimSpace(rest) {
		m := markerTokens.FindStringSubmatch(rest)
		if m == nil {
			return fmt.Errorf("%.80q is no environment marker, such as python_version < \"3.12\"", strings.TrimSpace(marker))
		}
		tokens = append(tokens, m[1])
		rest = rest[len(m[0]):]
	}
	p := &markerParser{tokens: tokens}
	if !p.or(0) || len(p.tokens) > 0 {
		return fmt.Errorf("%.80q is no environment marker, such as python_version < \"3.12\"", strings.TrimSpace(marker))
	}
	return nil
}

// markerParser reads tokens from the front.
type markerParser struct{ tokens []string }

func (p *markerParser) next() (token string) {
	if len(p.tokens) > 0 {
		token, p.tokens = p.tokens[0], p.tokens[1:]
	}
	return token
}

func (p *markerParser) accept(token string) bool {
	if len(p.tokens) > 0 && p.tokens[0] == token {
		p.next()
		return true
	}
	return false
}

func (p *markerParser) or(depth int) bool {
	for p.and(depth) {
		if !p.accept("or") {
			return true
		}
	}
	return false
}

func (p *markerParser) and(depth int) bool {
	for p.term(depth) {
		if !p.accept("and") {
			return true
		}
	}
	return false
}

func (p *markerParser) term(depth int) bool {
	if p.accept("(") {
		return depth < 20 && p.or(depth+1) && p.accept(")")
	}
	left := p.next()
	if p.accept("not") {
		if !p.accept("in") {
			return false
		}
	} else if !slices.Contains(markerOperators, p.next()) {
		return false
	}
	right := p.next()
	return slices.Contains(markerVariables, left) && quoted(right) || quoted(left) && slices.Contains(markerVariables, right)
}

// quoted reports whether a token is one in quotes.
func quoted(token string) bool { return len(token) >= 2 && (token[0] == '\'' || token[0] == '"') }

// Requiring is the runtime with other requirements than r's: those of a version
// of the project, or none. With any it belongs to the project, so that two
// projects never share what was installed for one of them.
func (r Runtime) Requiring(project ID, lines []string) Runtime {
	r.ProjectID, r.Lines, r.Requirements = "", nil, ""
	r.Status, r.Lock, r.Message = RuntimePending, "", "" // it is another, which nobody has built
	if len(lines) > 0 {
		r.ProjectID, r.Lines = project, lines
		r.Requirements = SHA256([]byte(string(project) + "\n" + strings.Join(lines, "\n")))[:32]
	}
	return r
}

package warpket

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Condition narrows a list by one of its fields. As text it is a value, or
// "op:value"; the zero Condition lets everything through.
type Condition struct {
	Op     Op
	Values []string // one, unless the operator takes several
}

// Op is how a field is compared.
type Op string

// The operators of conditions.
const (
	In  Op = "in"  // one of a,b,c
	Nin Op = "nin" // none of a,b,c
	Eq  Op = "eq"  // the same
	Neq Op = "neq" // another
	Gt  Op = "gt"  // more, or later
	Gte Op = "gte" // as much or more
	Lt  Op = "lt"  // less, or earlier
	Lte Op = "lte" // as much or less
	Has Op = "has" // holds this text
)

var ops = []Op{In, Nin, Eq, Neq, Gt, Gte, Lt, Lte, Has}

// maxValues is how many values one condition may have.
const maxValues = 100

// ParseCondition reads "value" or "op:value". allowed are the operators that
// the field has; a text that starts with no operator is a value as a whole.
func ParseCondition(field, text string, allowed ...Op) (Condition, error) {
	if text == "" {
		return Condition{}, nil
	}
	name, rest, ok := strings.Cut(text, ":")
	op := Op(name)
	if !ok || !slices.Contains(ops, op) {
		op, rest = Eq, text
	}
	if !slices.Contains(allowed, op) {
		return Condition{}, Errorf(Invalid, "%s cannot be compared by %q: these work: %s", field, op, joined(allowed)).At("query.%s", field)
	}
	if strings.ContainsRune(rest, 0) {
		return Condition{}, Errorf(Invalid, "%s has a NUL character", field).At("query.%s", field)
	}
	c := Condition{Op: op, Values: []string{rest}}
	if op == In || op == Nin {
		c.Values = strings.Split(rest, ",")
		if len(c.Values) > maxValues {
			return Condition{}, Errorf(Invalid, "%s has %d values; at most %d are taken", field, len(c.Values), maxValues).At("query.%s", field)
		}
	}
	return c, nil
}

func joined(allowed []Op) string {
	words := make([]string, len(allowed))
	for i, op := range allowed {
		words[i] = string(op)
	}
	return strings.Join(words, ", ")
}

// Holds reports whether a text fits the condition. Whole numbers are compared as
// such.
func (c Condition) Holds(text string) bool {
	if c.Op == "" {
		return true
	}
	order := compareTexts(text, c.Values[0])
	switch c.Op {
	case In:
		return slices.Contains(c.Values, text)
	case Nin:
		return !slices.Contains(c.Values, text)
	case Eq:
		return text == c.Values[0]
	case Neq:
		return text != c.Values[0]
	case Gt:
		return order > 0
	case Gte:
		return order >= 0
	case Lt:
		return order < 0
	case Lte:
		return order <= 0
	case Has:
		return strings.Contains(text, c.Values[0])
	}
	return false
}

func compareTexts(a, b string) int {
	m, err := strconv.ParseInt(a, 10, 64)
	n, err2 := strconv.ParseInt(b, 10, 64)
	if err == nil && err2 == nil {
		return cmp.Compare(m, n)
	}
	return strings.Compare(a, b)
}

package qinling

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
)

// fields are what a body says: JSON values, or the texts of a form. What is null
// was not said.
type fields struct {
	values map[string]any
	file   []byte // the package, if it came in a form
	form   bool
}

// object reads a body that is a JSON object. argument is what Qinling calls it.
func (b *Sent) object(argument string, known ...string) (fields, error) {
	f, err := b.json()
	if err != nil {
		return f, err
	}
	for name := range f.values {
		if !contains(known, name) {
			return f, invalid("Unknown attribute for argument %s: %.80s", argument, name)
		}
	}
	return f, nil
}

func (b *Sent) json() (fields, error) {
	f := fields{values: map[string]any{}}
	d := json.NewDecoder(bytes.NewReader(b.RawBody))
	d.UseNumber()
	if err := d.Decode(&f.values); err != nil || f.values == nil {
		return f, invalid("Invalid JSON: the body is to be an object")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return f, invalid("Invalid JSON: something follows the object")
	}
	return f, nil
}

// either reads a body that is a form, of either sort, or JSON. What nobody knows
// in it is let be.
func (b *Sent) either() (fields, error) {
	kind, parameters, _ := mime.ParseMediaType(b.kind)
	if kind != "multipart/form-data" && len(b.RawBody) > maxBody {
		return fields{}, newFault(http.StatusRequestEntityTooLarge, "The body is too large: only a package in a form may have more than 1 MiB.")
	}
	switch kind {
	case "multipart/form-data":
		return b.multipart(parameters["boundary"])
	case "application/x-www-form-urlencoded":
		form, err := url.ParseQuery(string(b.RawBody))
		if err != nil {
			return fields{}, invalid("The form can not be read.")
		}
		f := fields{values: map[string]any{}, form: true}
		for name, values := range form {
			f.values[name] = values[0]
		}
		return f, nil
	}
	if len(b.RawBody) == 0 {
		return fields{values: map[string]any{}}, nil
	}
	return b.json()
}

func (b *Sent) multipart(boundary string) (fields, error) {
	f := fields{values: map[string]any{}, form: true}
	parts := multipart.NewReader(bytes.NewReader(b.RawBody), boundary)
	for range maxParts {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return f, nil
		}
		if err != nil {
			return f, invalid("The form can not be read.")
		}
		value, err := io.ReadAll(part)
		if err != nil {
			return f, invalid("The form can not be read.")
		}
		if part.FormName() == "package" {
			f.file = value
			continue
		}
		f.values[part.FormName()] = string(value)
	}
	return f, invalid("The form has too many parts.")
}

// has reports whether a field was said.
func (f fields) has(name string) bool { return f.values[name] != nil }

// text reads a text; it is empty if it was not said.
func (f fields) text(name string) (string, error) {
	switch v := f.values[name].(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	}
	return "", invalid("Invalid input for field/attribute %s. A string is required.", name)
}

// integer reads a whole number. said tells whether there is one.
func (f fields) integer(name, wrong string) (n int, said bool, err error) {
	var text string
	switch v := f.values[name].(type) {
	case nil:
		return 0, false, nil
	case string:
		text = v
	case json.Number:
		text = v.String()
	}
	if n, err = strconv.Atoi(text); err != nil {
		return 0, false, newFault(400, wrong)
	}
	return n, true, nil
}

// version reads the number of a version: 0, the draft, unless it was said.
func (f fields) version() (int, bool, error) {
	n, said, err := f.integer("function_version", "Invalid input for field/attribute function_version. An integer is required.")
	if err == nil && (n < 0 || n > 1<<31-1) {
		err = invalid("Invalid input for field/attribute function_version. Value: '%d'. Value should be greater or equal to 0", n)
	}
	return n, said, err
}

// flag reads a truth.
func (f fields) flag(name string, otherwise bool) (bool, error) {
	switch v := f.values[name].(type) {
	case nil:
		return otherwise, nil
	case bool:
		return v, nil
	case string:
		if b, err := strconv.ParseBool(v); err == nil {
			return b, nil
		}
	}
	return false, invalid("Invalid input for field/attribute %s. A boolean is required.", name)
}

// texts reads several texts into where they belong, up to the first that is none.
func (f fields) texts(into map[string]*string) error {
	for name, to := range into {
		v, err := f.text(name)
		if err != nil {
			return err
		}
		*to = v
	}
	return nil
}

// Inputs are texts here and JSON values natively, that keep their spelling. One
// that starts with a space was no JSON: it stands for nothing, or for plain text.
const noJSON = ' '

// inputOf makes the JSON value of an input.
func inputOf(text string, said bool) []byte {
	if !said || text == "" {
		return []byte{noJSON, '{', '}'}
	}
	if b := bytes.TrimSpace([]byte(text)); json.Valid(b) {
		return b
	}
	b, _ := json.Marshal(text) // a text: cannot fail
	return append([]byte{noJSON}, b...)
}

// inputText gives an input as it was sent; nil if there was none.
func inputText(input []byte) *string {
	if len(input) == 0 {
		return nil
	}
	var text string
	if input[0] == noJSON {
		if json.Unmarshal(input, &text) != nil {
			return nil
		}
		return &text
	}
	return new(string(input))
}

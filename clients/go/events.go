package client

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"iter"
	"strings"
)

// Event is a server-sent event.
type Event struct {
	ID   string // of the last event that had one: send it as Last-Event-ID to go on from there
	Name string
	Data []byte
}

// Events reads server-sent events from the body of an answer, until it ends.
// An event that is cut short is left out. (WHATWG HTML, section 9.2)
func Events(body io.Reader) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		r := bufio.NewReader(body)
		var e Event
		var data [][]byte
		for {
			line, err := r.ReadBytes('\n')
			if err != nil {
				if !errors.Is(err, io.EOF) {
					yield(Event{}, err)
				}
				return
			}
			line = bytes.TrimRight(line, "\r\n")
			if len(line) == 0 {
				if e.Data = bytes.Join(data, []byte("\n")); data != nil && !yield(e, nil) {
					return
				}
				e, data = Event{ID: e.ID}, nil
				continue
			}
			field, value, _ := strings.Cut(string(line), ":")
			value = strings.TrimPrefix(value, " ")
			switch field {
			case "id":
				e.ID = value
			case "event":
				e.Name = value
			case "data":
				data = append(data, []byte(value))
			}
		}
	}
}

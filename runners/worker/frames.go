package worker

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"github.com/warpket/warpket"
)

// The kinds of frames. A frame is its payload's length (4 bytes, big-endian),
// its kind (1 byte) and the payload: a header's length (4 bytes), the header
// (a JSON object) and a body of bytes. harness/warpket_harness/frames.py is
// the other end.
const (
	loadFrame   byte = 'L' // to the worker: import this entry
	runFrame    byte = 'R' // to the worker: run it; the body is the input
	parkedFrame byte = 'p' // from the worker, if it was made ahead of need: ready for any load frame
	loadedFrame byte = 'l' // from the worker: imported, or the failure
	resultFrame byte = 'r' // from the worker: how it went; the body is the result
)

const (
	prefixSize = 9 // both lengths and the kind
	maxHeader  = 1 << 20
	maxPayload = warpket.MaxResult + maxHeader
)

type loadHeader struct {
	Entry      string            `json:"entry"`
	SDK        string            `json:"sdk"`
	SDKVersion string            `json:"sdk_version"`
	Folder     string            `json:"folder"` // of the function's files
	Env        map[string]string `json:"env"`
	Memory     int64             `json:"memory"`
	DataLimit  int64             `json:"data_limit"` // bytes of a process's memory where no cgroup holds it; 0 for none
	MaxResult  int               `json:"max_result"`
}

type runHeader struct {
	Call        int            `json:"call"` // which call of this worker it is; its answers say so too
	ExecutionID warpket.ID     `json:"execution_id"`
	FunctionID  warpket.ID     `json:"function_id"`
	Function    string         `json:"function"`
	Version     int            `json:"version"`
	Shots       int            `json:"shots"`
	Seed        int64          `json:"seed"`
	Target      warpket.Target `json:"target"`
	Attempt     int            `json:"attempt"`
	Timeout     float64        `json:"timeout"` // seconds
}

// answer is the header of loaded and result frames.
type answer struct {
	Call    int              `json:"call"`
	Failure *warpket.Failure `json:"failure"`
	Ran     int64            `json:"ran"`  // nanoseconds
	CPU     int64            `json:"cpu"`  // nanoseconds
	Peak    int64            `json:"peak"` // bytes
}

// writeFrame writes one frame. A small one is one write.
func writeFrame(w io.Writer, kind byte, header any, body []byte) error {
	head, err := json.Marshal(header)
	if err != nil {
		return fmt.Errorf("encoding a frame: %w", err)
	}
	frame := make([]byte, 0, prefixSize+len(head)+min(len(body), warpket.MaxInline))
	frame = binary.BigEndian.AppendUint32(frame, uint32(4+len(head)+len(body))) //nolint:gosec // inputs are bounded
	frame = append(frame, kind)
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(head))) //nolint:gosec // so are headers
	frame = append(frame, head...)
	if len(body) <= warpket.MaxInline {
		_, err = w.Write(append(frame, body...))
		return err
	}
	if _, err = w.Write(frame); err != nil {
		return err
	}
	_, err = w.Write(body)
	return err
}

// errFrame says that what came is no frame: user code can write to the stream.
type errFrame string

func (e errFrame) Error() string { return string(e) }

// readFrame reads one frame, trusting nothing that it says.
func readFrame(r *bufio.Reader) (kind byte, head answer, body []byte, err error) {
	var prefix [prefixSize]byte
	if _, err = io.ReadFull(r, prefix[:]); err != nil {
		return 0, head, nil, err
	}
	size := int64(binary.BigEndian.Uint32(prefix[:4])) - 4
	kind = prefix[4]
	headSize := int64(binary.BigEndian.Uint32(prefix[5:]))
	if size < 0 || size > maxPayload || headSize > min(size, maxHeader) {
		return 0, head, nil, errFrame("a frame has impossible lengths")
	}
	payload, err := readBytes(r, size)
	if err != nil {
		return 0, head, nil, err
	}
	if err := json.Unmarshal(payload[:headSize], &head); err != nil {
		return 0, head, nil, errFrame("the header of a frame is not JSON")
	}
	return kind, head, payload[headSize:], nil
}

// readBytes takes memory for what has come, not for what was announced.
func readBytes(r io.Reader, size int64) ([]byte, error) {
	if size <= warpket.MaxInline {
		b := make([]byte, size)
		_, err := io.ReadFull(r, b)
		return b, err
	}
	var buffer bytes.Buffer
	_, err := io.CopyN(&buffer, r, size)
	return buffer.Bytes(), err
}

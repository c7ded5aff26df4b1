package worker

import (
	"fmt"
	"os"
)

// pipes are the three pipes between the node and a worker, with the ends that
// are the worker's.
type pipes struct {
	control, answers, output                *os.File
	theirControl, theirAnswers, theirOutput *os.File
}

func (p *pipes) open() (err error) {
	if p.theirControl, p.control, err = os.Pipe(); err != nil {
		return fmt.Errorf("opening a pipe: %w", err)
	}
	if p.answers, p.theirAnswers, err = os.Pipe(); err != nil {
		return fmt.Errorf("opening a pipe: %w", err)
	}
	if p.output, p.theirOutput, err = os.Pipe(); err != nil {
		return fmt.Errorf("opening a pipe: %w", err)
	}
	return nil
}

func (p *pipes) closeOurs() { closeAll(p.control, p.answers, p.output) }

// closeTheirs closes the worker's ends here, so that they end when it ends.
func (p *pipes) closeTheirs() { closeAll(p.theirControl, p.theirAnswers, p.theirOutput) }

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}

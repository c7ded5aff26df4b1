package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/term"
)

// screen is a stream that may be a terminal.
type screen struct {
	io.Writer
	terminal bool
	plain    bool // no colours, nothing drawn again
	width    int
}

const defaultWidth = 80

func newScreen(w io.Writer, plain bool) *screen {
	s := &screen{Writer: w, width: defaultWidth, plain: true}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		s.terminal, s.plain = true, plain
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			s.width = width
		}
	}
	return s
}

// printf writes a line of text. What cannot be written cannot be told either.
func (s *screen) printf(format string, args ...any) { fmt.Fprintf(s, format+"\n", args...) }

// The colours: words, not looks.
const (
	good  = "32"
	bad   = "31"
	quiet = "2"
	busy  = "36"
)

// paint colours a text where colours can be seen.
func (s *screen) paint(colour, text string) string {
	if s.plain || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// table writes rows below a header, aligned.
func (s *screen) table(header string, rows [][]string) {
	t := tabwriter.NewWriter(s, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, header)
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	_ = t.Flush()
}

// progress shows what is waited for: on a terminal one line that is drawn
// again with the time that has passed, elsewhere a line for each change.
type progress struct {
	s       *screen
	started time.Time
	stop    chan struct{}
	stopped sync.WaitGroup

	mu   sync.Mutex
	text string
}

// frame is how long each picture of the spinner stays.
const frame = 100 * time.Millisecond

func (s *screen) progress(text string) *progress {
	p := &progress{s: s, started: time.Now(), stop: make(chan struct{})}
	p.say(text)
	if s.plain {
		return p
	}
	p.stopped.Go(func() {
		tick := time.NewTicker(frame)
		defer tick.Stop()
		for i := 0; ; i++ {
			p.draw(i)
			select {
			case <-tick.C:
			case <-p.stop:
				fmt.Fprint(s, "\r\x1b[K")
				return
			}
		}
	})
	return p
}

func (p *progress) draw(i int) {
	p.mu.Lock()
	text := p.text
	p.mu.Unlock()
	elapsed := fmt.Sprintf("%.1f s", time.Since(p.started).Seconds())
	if room := p.s.width - len(elapsed) - 5; len([]rune(text)) > room && room > 0 {
		text = string([]rune(text)[:room-1]) + "…"
	}
	spinner := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
	fmt.Fprintf(p.s, "\r\x1b[K%s %s %s", p.s.paint(busy, string(spinner[i%len(spinner)])), text, p.s.paint(quiet, elapsed))
}

// say changes what is shown.
func (p *progress) say(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if text == p.text {
		return
	}
	p.text = text
	if p.s.plain {
		p.s.printf("  %s", text)
	}
}

// end stops the drawing and gives the time that has passed.
func (p *progress) end() time.Duration {
	close(p.stop)
	p.stopped.Wait()
	return time.Since(p.started)
}

// duration is a time as a person reads it.
func duration(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// milliseconds is a duration on the wire.
func milliseconds(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// age is how long ago something was.
func age(then, now time.Time) string {
	d := now.Sub(then)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(d.Hours()/24))
}

// size is a number of bytes as a person reads it.
func size(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

// safe takes out of a text what would steer a terminal.
func safe(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '�'
		}
		return r
	}, text)
}

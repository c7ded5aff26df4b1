package api

import (
	"testing"
	"time"
)

func TestAReadThatBeganBeforeADropIsNotFoundAfterIt(t *testing.T) {
	t.Parallel()
	c := newCache[string](time.Hour)
	reading, changed := make(chan struct{}), make(chan struct{})
	first := make(chan string)
	go func() {
		v, _ := c.get("function", func() (string, error) {
			close(reading)
			<-changed
			return "old", nil
		})
		first <- v
	}()
	<-reading
	c.drop()
	v, _ := c.get("function", func() (string, error) { return "new", nil }) // does not wait for the other
	if v != "new" {
		t.Errorf("it is %s", v)
	}
	close(changed)
	if v := <-first; v != "old" {
		t.Errorf("who asked before the change got %s", v)
	}
	if v, _ := c.get("function", func() (string, error) { t.Error("it was not kept"); return "", nil }); v != "new" {
		t.Errorf("then it is %s", v)
	}
}

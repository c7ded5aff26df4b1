package e2e

import (
	"fmt"
	"testing"
)

// remembering tells what it has of executions before.
const remembering = `
import os
calls = 0
def handler():
    global calls
    calls += 1
    file = os.path.exists("/tmp/was-here")
    open("/tmp/was-here", "w").close()
    return [calls, file]
`

func TestWhatAnExecutionLeavesIsThereForTheNextOnlyIfItsProcessIsKept(t *testing.T) {
	t.Parallel()
	c := theProduct(t)
	for _, reuse := range []string{"process", "none"} {
		t.Run(reuse, func(t *testing.T) {
			t.Parallel()
			for _, lane := range []string{"durable", "express"} {
				id := c.python(t, unique("remembering"), remembering, object{"reuse": reuse})
				c.deploy(t, id, 2, object{"slots": 1}) // in which all of them are executed
				for i := range 4 {
					want := "[1,false]"
					if reuse == "process" && i > 0 {
						want = fmt.Sprintf("[%d,true]", i+1)
					}
					if e := c.execute(t, id, object{"lane": lane}); string(e.Result) != want {
						t.Errorf("%s execution %d gives %s (%+v), not %s", lane, i+1, e.Result, e.Error, want)
					}
				}
			}
		})
	}
}

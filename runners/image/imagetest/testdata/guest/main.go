// Guest is the program of images in tests: it does what its arguments say.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	what := os.Args[1]
	switch what {
	case "echo": // the input, by the descriptor
		fmt.Println("to the log")
		fmt.Fprintln(os.Stderr, "to the log, too")
		input, _ := io.ReadAll(os.Stdin)
		_, _ = os.NewFile(resultFD(), "result").Write(input)
	case "world": // what it finds around itself
		environ := map[string]string{}
		for _, variable := range os.Environ() {
			name, value, _ := strings.Cut(variable, "=")
			environ[name] = value
		}
		dir, _ := os.Getwd()
		_, etc := os.Stat("/etc/shadow")
		_ = json.NewEncoder(os.NewFile(resultFD(), "result")).Encode(map[string]any{
			"env": environ, "dir": dir, "uid": os.Getuid(), "arguments": os.Args, "machine": etc == nil,
			"tmp": os.WriteFile("/tmp/x", nil, 0o600) == nil, "readonly": os.WriteFile("/x", nil, 0o600) != nil,
		})
	case "read": // a file, as a string, by the descriptor
		content, err := os.ReadFile(os.Args[2])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		_ = json.NewEncoder(os.NewFile(resultFD(), "result")).Encode(string(content))
	case "write-code": // whether it can write where the files are
		_ = json.NewEncoder(os.NewFile(resultFD(), "result")).Encode(os.WriteFile("/code/x", nil, 0o600) == nil)
	case "print": // each argument as a line
		for _, line := range os.Args[2:] {
			fmt.Println(line)
		}
	case "print-long":
		fmt.Println(`"` + strings.Repeat("x", 2<<20) + `"`)
	case "write": // to the descriptor
		_, _ = os.NewFile(resultFD(), "result").WriteString(os.Args[2])
	case "write-long":
		result := os.NewFile(resultFD(), "result")
		for range 65 {
			_, _ = result.WriteString(strings.Repeat("1", 1<<20))
		}
	case "exit":
		code, _ := strconv.Atoi(os.Args[2])
		fmt.Println(`{"ignored": true}`)
		os.Exit(code)
	case "signal":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "wait":
		fmt.Println("waiting")
		time.Sleep(time.Hour)
	case "sleep":
		_, _ = io.ReadAll(os.Stdin)
	case "memory":
		var all [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = 1
			}
			all = append(all, b)
		}
	case "disk":
		if err := os.WriteFile("/tmp/large", make([]byte, 200<<20), 0o600); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "processes":
		r, _, _ := os.Pipe()
		for range 300 {
			cmd := exec.Command("/proc/self/exe", "sleep")
			cmd.Stdin = r
			if err := cmd.Start(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	}
}

func resultFD() uintptr {
	fd, _ := strconv.Atoi(os.Getenv("WARPKET_RESULT_FD"))
	return uintptr(fd)
}

// Interop is what the tests and benchmarks run of other people's Go libraries.
//
//	interop SUBCOMMAND [FLAG...]
//
// Each file registers its own subcommands.
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"
)

// A subcommand gets the words after its name.
type subcommand func(arguments []string) error

var subcommands = map[string]subcommand{}

// register is called from init, once for each name.
func register(name string, run subcommand) {
	subcommands[name] = run
}

func main() {
	if len(os.Args) > 1 {
		if run, known := subcommands[os.Args[1]]; known {
			if err := run(os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, os.Args[1]+":", err)
				os.Exit(1)
			}
			return
		}
	}
	names := make([]string, 0, len(subcommands))
	for name := range subcommands {
		names = append(names, name)
	}
	sort.Strings(names)
	fmt.Fprintln(os.Stderr, "usage: interop", strings.Join(names, "|"), "[FLAG...]")
	os.Exit(2)
}

// Package process starts child processes that cannot outlive their parent.
//
// A throw-away server must end with the program that started it, whatever happens to that program.
// Two things stand in the way: a terminal sends its Ctrl-C to the whole foreground group, so that a
// server would die before its owner has stopped using it, and a program killed with SIGKILL has no
// chance to end anything. So every child gets its own process group, and on Linux the kernel
// is asked to send it a signal when the parent dies. Elsewhere that second part is missing, and a
// child survives a parent that is killed with SIGKILL.
package process

//go:build unix && !linux

package process

import "syscall"

// tieToParent sets the group of the child. Only Linux can tell a child of its parent's death.
func tieToParent(attr *syscall.SysProcAttr, _ syscall.Signal) (release func()) {
	attr.Setpgid = true
	return func() {}
}

package process

import (
	"runtime"
	"syscall"
)

// tieToParent sets the group of the child and the signal that it gets when its parent dies. The
// parent is, to the kernel, the thread that forked: were the caller to give that thread back, Go's
// scheduler could end it and so end the child. The caller therefore keeps the thread, by not
// calling release, for as long as the child runs.
func tieToParent(attr *syscall.SysProcAttr, onParentDeath syscall.Signal) (release func()) {
	runtime.LockOSThread()
	attr.Setpgid = true
	attr.Pdeathsig = onParentDeath
	return runtime.UnlockOSThread
}

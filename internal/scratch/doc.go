// Package scratch makes folders that do not outlive the program that made them.
//
// A program that is killed cannot remove its folders. So each folder holds a file that its maker
// keeps locked, the kernel drops that lock when the maker dies, and the process that makes the next
// folder of the kind first removes those that are not locked.
package scratch

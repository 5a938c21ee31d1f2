// Package usage reads what a process, or a family of processes, holds and has used: memory and
// processor time. On systems other than Linux it knows nothing and says so. It only reads /proc.
package usage

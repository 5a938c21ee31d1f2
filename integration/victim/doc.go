// Package victim is a consuming service that tests kill, freeze and starve: it moves money between
// accounts through the inbox, and a failpoint ends it at a step that a test chooses. The effects
// that it leaves behind say nothing about the inbox's own tables, so that a judge need not believe
// those. Program victim/process runs it.
package victim

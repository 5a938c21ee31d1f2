package migrations

import (
	"cmp"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// FS holds the migrations: NNNN_name.up.sql and NNNN_name.down.sql, in its root.
//
//go:embed *.up.sql *.down.sql
var FS embed.FS

//go:embed partitioned/*.sql
var partitioned embed.FS

//go:embed inbox/*.up.sql inbox/*.down.sql
var inbox embed.FS

// PartitionedFS holds the three optional steps that partition the outbox, numbered from 1 in the
// same form as FS, in its root. They come after every migration of FS; a tool that applies them
// needs its own table of versions for them.
var PartitionedFS = sub(partitioned, "partitioned")

// InboxFS holds the migrations of the inbox in the form of FS, in its root. They belong into the
// database of a consumer, which need not hold an outbox, and have their own versions: a tool
// that applies them needs a table of versions for them.
var InboxFS = sub(inbox, "inbox")

// Roles is the text of roles.sql: least-privilege roles for services that write events, and for the
// relay. Nothing applies it by itself.
//
//go:embed roles.sql
var Roles string

// InboxRoles is the text of inbox/roles.sql: least-privilege roles for services that consume, and
// for the people who look after them. Nothing applies it by itself.
//
//go:embed inbox/roles.sql
var InboxRoles string

// Migration is one step of the schema.
type Migration struct {
	// Version orders the steps; the first is 1.
	Version uint
	// Name is the part of the file name after the version, such as "outbox".
	Name string
	// Up and Down are the texts of the two files, each a script of many statements.
	Up, Down string
}

// List returns the migrations in the order in which they are applied.
func List() []Migration { return list(FS) }

// Partitioned returns the steps of PartitionedFS in their order.
func Partitioned() []Migration { return list(PartitionedFS) }

// Inbox returns the migrations of InboxFS in the order in which they are applied.
func Inbox() []Migration { return list(InboxFS) }

func list(files fs.FS) []Migration {
	all, err := read(files)
	if err != nil {
		// The files are part of the program, and a test reads them: this is not a state of the
		// world.
		panic(fmt.Sprintf("embedded migrations: %v", err))
	}
	return all
}

func sub(files fs.FS, folder string) fs.FS {
	inner, err := fs.Sub(files, folder)
	if err != nil {
		panic(fmt.Sprintf("embedded migrations: %v", err)) // see list
	}
	return inner
}

// read pairs the files of a folder.
func read(files fs.FS) ([]Migration, error) {
	const up, down = ".up.sql", ".down.sql"
	names, err := fs.Glob(files, "*"+up)
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	var list []Migration
	for _, name := range names {
		stem := strings.TrimSuffix(name, up)
		digits, rest, found := strings.Cut(stem, "_")
		version, err := strconv.ParseUint(digits, 10, 32)
		if err != nil || !found || rest == "" || version == 0 {
			return nil, fmt.Errorf("migration %s: want NNNN_name%s", name, up)
		}
		upText, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("migration %s: %w", name, err)
		}
		downText, err := fs.ReadFile(files, stem+down)
		if err != nil {
			return nil, fmt.Errorf("migration %s: %w", name, err)
		}
		list = append(list, Migration{Version: uint(version), Name: rest, Up: string(upText), Down: string(downText)})
	}
	slices.SortFunc(list, func(a, b Migration) int { return cmp.Compare(a.Version, b.Version) })
	return list, nil
}

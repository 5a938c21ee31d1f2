package migrations

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

func TestMigrationsAreNumberedWithoutGapsAndReversible(t *testing.T) {
	for name, files := range map[string]fs.FS{"outbox": FS, "inbox": InboxFS, "partitioned": PartitionedFS} {
		all := list(files)
		if len(all) == 0 {
			t.Fatalf("%s: no migration is embedded", name)
		}
		for i, m := range all {
			if m.Version != uint(i+1) {
				t.Errorf("%s: migration %d has version %d", name, i+1, m.Version)
			}
			for direction, text := range map[string]string{"up": m.Up, "down": m.Down} {
				if !strings.HasPrefix(text, "-- ") {
					t.Errorf("%s: %04d_%s.%s.sql does not begin with what it is for", name, m.Version, m.Name, direction)
				}
			}
		}
		down, err := fs.Glob(files, "*.down.sql")
		if err != nil || len(down) != len(all) {
			t.Errorf("%s: %d files go down, %d up (%v)", name, len(down), len(all), err)
		}
	}
}

// functions matches the bodies of functions: what they do, they do when somebody calls them.
var functions = regexp.MustCompile(`(?s)CREATE FUNCTION .*?\n\$\$;`)

// What a file creates must land in the schema of the search_path, and installing must never remove
// anything.
func TestMigrationsNameNoSchemaAndInstallDestroysNothing(t *testing.T) {
	for _, m := range append(List(), Inbox()...) {
		if strings.Contains(m.Up+m.Down, "public.") {
			t.Errorf("%04d_%s names the schema public", m.Version, m.Name)
		}
		if found := regexp.MustCompile(`(?im)^\s*(DROP|TRUNCATE|DELETE)\b`).FindString(functions.ReplaceAllString(m.Up, "")); found != "" {
			t.Errorf("%04d_%s.up.sql has %q", m.Version, m.Name, found)
		}
	}
}

// The names of tools must not take the role file for a migration.
func TestRolesAreEmbeddedAndNoMigration(t *testing.T) {
	if !strings.Contains(Roles, "CREATE ROLE outbox_writer") {
		t.Error("Roles has no outbox_writer")
	}
	if _, err := fs.Stat(FS, "roles.sql"); err == nil {
		t.Error("FS holds roles.sql")
	}
}

func TestReadRefusesWhatIsNoPairOfFiles(t *testing.T) {
	file := &fstest.MapFile{Data: []byte("SELECT 1")}
	for name, files := range map[string]fstest.MapFS{
		"no down":    {"0001_a.up.sql": file},
		"no version": {"a.up.sql": file, "a.down.sql": file},
		"no name":    {"0001.up.sql": file, "0001.down.sql": file},
		"zero":       {"0000_a.up.sql": file, "0000_a.down.sql": file},
	} {
		if list, err := read(files); err == nil {
			t.Errorf("%s: read gave %v and no error", name, list)
		}
	}
}

func TestReadOrdersByVersionNotByText(t *testing.T) {
	file := &fstest.MapFile{Data: []byte("SELECT 1")}
	list, err := read(fstest.MapFS{
		"10_b.up.sql": file, "10_b.down.sql": file, "9_a.up.sql": file, "9_a.down.sql": file,
	})
	if err != nil || len(list) != 2 || list[0].Name != "a" || list[1].Name != "b" {
		t.Errorf("read gave %v, %v", list, err)
	}
}

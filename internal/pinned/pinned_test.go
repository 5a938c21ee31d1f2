package pinned

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The digests of "a" and "b", as sha256sum gives them.
const list = `ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb  a.jar
3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d  b.jar
`

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOnlyTheListedFilesAsTheyWerePass(t *testing.T) {
	digests, err := Parse(list)
	if err != nil || digests.String() != list {
		t.Fatalf("got %q, %v", digests.String(), err)
	}
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"as listed":      {map[string]string{"a.jar": "a", "b.jar": "b", "pom.xml": "x"}, ""},
		"one is another": {map[string]string{"a.jar": "A", "b.jar": "b"}, "a.jar is not what it should be"},
		"one too many":   {map[string]string{"a.jar": "a", "b.jar": "b", "c.jar": "c"}, "no digest of c.jar"},
		"one is missing": {map[string]string{"a.jar": "a"}, "b.jar is missing"},
	} {
		dir := t.TempDir()
		write(t, dir, test.files)
		if err := digests.Folder(dir, ".jar"); (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

func TestAListThatIsNoneIsRefused(t *testing.T) {
	for _, text := range []string{"", "abc  a.jar\n", strings.Replace(list, "  ", " ", 1), strings.Replace(list, "a.jar", "../a.jar", 1), list + list} {
		if digests, err := Parse(text); err == nil {
			t.Errorf("%q gave %v", text, digests)
		}
	}
}

func TestAnotherListHasAnotherName(t *testing.T) {
	one, errOne := Parse(list)
	other, errOther := Parse(strings.Replace(list, "ca97", "ca98", 1))
	if errOne != nil || errOther != nil || one.Of() == other.Of() || len(one.Of()) != 12 {
		t.Errorf("got %s and %s (%v, %v)", one.Of(), other.Of(), errOne, errOther)
	}
}

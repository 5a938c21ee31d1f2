// Package testpg gives the tests of a package a Postgres server, and each test a database.
//
// A package whose tests need one says so in its TestMain, and asks for databases in its tests:
//
//	func TestMain(m *testing.M) { testpg.Main(m, testpg.Options{}) }
//
//	conn := testpg.Connect(t, testpg.Database(t, migrations.List()))
//
// The server starts with the first test that asks for it, so `go test -run` of a test that needs
// none starts none. It belongs to the test binary alone, because transactions, roles and prepared
// transactions of one server are seen from all its databases: two packages that shared a server
// would wait for each other. Main stops it, and reports goroutines that were not joined.
//
// An example function has no *testing.T; Example gives it a database.
//
// The package starts a sandbox.Postgres and nothing else. Only tests import it.
package testpg

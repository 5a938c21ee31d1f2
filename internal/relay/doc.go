// Package relay is the engine: it runs the lanes of a process, and recovers from any doubt by
// taking a lane over again.
//
// The files, from the outside in: relay.go and lane.go run the lanes; ownership.go decides who runs
// a lane. Its owner has internal/takeover take it over and internal/pipeline publish its rows;
// options.go says what each of them is given. What a lane does is said in state.go and observer.go.
package relay

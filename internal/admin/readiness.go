package admin

import (
	"fmt"
	"time"

	"github.com/outbox-relay/relay"
)

// Readiness is the answer of /readyz, as JSON.
type Readiness struct {
	// Ready is true when every lane is.
	Ready bool `json:"ready"`
	// Reason says why the process as a whole is not ready; empty if a lane says so.
	Reason string `json:"reason,omitempty"`
	// Lanes holds every lane of the process.
	Lanes []LaneReadiness `json:"lanes"`
}

// LaneReadiness is the part of Readiness about one lane.
type LaneReadiness struct {
	// Lane is the name of the lane.
	Lane string `json:"lane"`
	// State is the state of the lane as this process knows it.
	State relay.State `json:"state"`
	// Ready is whether the lane is another process's, or makes progress.
	Ready bool `json:"ready"`
	// Reason says why it is not ready; empty if it is.
	Reason string `json:"reason,omitempty"`
	// Remark is what a ready lane has to say nevertheless: which topics it runs without, or what it
	// has waited for since a moment ago.
	Remark string `json:"remark,omitempty"`
}

// judge decides whether lanes are ready at the time now.
func judge(lanes []relay.LaneStatus, within time.Duration, now time.Time) Readiness {
	answer := Readiness{Ready: true, Lanes: []LaneReadiness{}}
	if len(lanes) == 0 {
		return Readiness{Reason: "starting: waiting for Postgres and Kafka", Lanes: answer.Lanes}
	}
	for _, l := range lanes {
		reason := notReady(l, within, now)
		lane := LaneReadiness{Lane: l.Lane, State: l.State, Ready: reason == "", Reason: reason}
		if lane.Ready {
			lane.Remark = l.Reason
		}
		answer.Lanes = append(answer.Lanes, lane)
		answer.Ready = answer.Ready && reason == ""
	}
	return answer
}

// notReady returns why a lane is not ready, or "". A lane that waits is ready until the time is up:
// a broker that restarts is no reason to raise an alarm.
func notReady(l relay.LaneStatus, within time.Duration, now time.Time) string {
	if l.State == relay.Standby {
		return ""
	}
	if l.State == relay.Halted {
		return "halted: " + l.Reason
	}
	idle := now.Sub(l.Progress)
	if !l.Progress.IsZero() && idle <= within {
		return ""
	}
	switch {
	case l.State == relay.Waiting:
		return "waiting: " + l.Reason
	case l.State == relay.TakingOver:
		return fmt.Sprintf("taking over for %v", now.Sub(l.Since).Round(time.Second))
	case l.Progress.IsZero():
		return "no progress yet"
	}
	reason := fmt.Sprintf("no progress for %v", idle.Round(time.Second))
	if l.Reason != "" {
		reason += ": " + l.Reason
	}
	return reason
}

// Prints what Kubernetes makes of schedules: it parses a CronJob's `schedule` with ParseStandard of
// github.com/robfig/cron/v3 and asks Next for the following run, with `TZ=` and the `timeZone` put before it.
//
// The output is table.tsv beside this file; README.md says how to make it again.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"time"
	_ "time/tzdata"

	"github.com/robfig/cron"
)

// What is not a schedule, or looks like none.
var odd = []string{
	"", " ", "0 6 * *", "0 0 6 * * *", "0 6 * * * 2027", "every morning at six please",
	"60 6 * * *", "0 24 * * *", "0 6 0 * *", "0 6 32 * *", "0 6 * 0 *", "0 6 * 13 *", "0 6 * * 7",
	"0 6 * * SUN-7", "0 6 * * NOD", "0 6 * * MONDAY", "0 6 * JANUARY *", "0 6 * * FRI-MON", "0 6 * * 5-1",
	"0 22-2 * * *", "-1 6 * * *", "0 6 L * *", "0 6 * * 5L", "0 6 * * 1#2", "0 6 15W * *", "H 6 * * *",
	"0 6 */0 * *", "*/-5 6 * * *", "*//2 6 * * *", "1/2/3 6 * * *", "1--3 6 * * *", "1-3-5 6 * * *",
	"1- 6 * * *", "-3 6 * * *", "*/ 6 * * *", "/5 6 * * *", "1.5 6 * * *", "0x5 6 * * *", "** 6 * * *",
	"99999999999999999999 6 * * *", "*/99999999999999999999 6 * * *", "*/9223372036854775807 6 * * *",
	"@reboot", "@Daily", "@daily ", " @daily", "@every", "@every ", "@every 1x", "@", "@daily 0 6 * * *",
	"* * * * mon,xyz", "a-b 6 * * *", "0 6 * * MON-", "0 6 * * -MON", "0 6 * * mon/0", "0 +30 * * *",
	"0 6 *-MON * *", "? ? ? ? ?-?", "_5 6 * * *", "1_0 6 * * *", "0 6 * * MON;TUE", "\u00a00 6 * * *",
}

// Schedules of every form, asked for in UTC over days, months and years.
var forms = []string{
	"* * * * *", "? ? ? ? ?", "0 6 * * MON-FRI", "0 6 */1 * MON-FRI", "0 6 ?/1 * MON-FRI", "0 6 * * */1",
	"0 6 */2 * MON-FRI", "0 6 1-31 * MON-FRI", "0 6 1/1 * MON-FRI", "0 6 1 * MON", "0 6 1,15 * 1,5",
	"0 6 13 * FRI", "0 6 * * 0", "0 6 * * sun", "0 6 * * Sun,wEd", "0 6 * * SUN-SAT", "0 6 1 * SUN-SAT",
	"0 6 * * MON/2", "0 6 1 * */2", "0 6 1 * */1", "0 6 *,1 * MON", "0 6 1,* * MON", "0 6 *-5 * MON",
	"0 6 *-5/2 * MON", "0 6 ? * MON", "0 6 ?/2 * MON", "0 6 15 * ?", "0 6 * JAN,jul *", "0 6 * jan-mar *",
	"0 6 * */5 *", "0 6 1 2/3 *", "*/15 * * * *", "5/15 * * * *", "20-35/15 * * * *", "0/15 6 * * *",
	"7 */5 * * *", "*/61 * * * *", "*/60 * * * *", "59/2 * * * *", "0-59 6 * * *", "1,,2 6 * * *",
	",5 6 * * *", "5, 6 * * *", "+5 +6 * * *", "05 006 * * *", "0 6-6 * * *", "0 6 28-31/2 * *",
	"0 6 29 2 *", "0 6 29 FEB ?", "0 6 29 2 MON", "0 6 30 2 *", "0 6 31 4 *", "0 6 31 4,6,9,11 *",
	"0 6 31 * *", "0 6 30 2 MON", ", 6 * * *", "0 6 , * *", "0 6 , * MON", "0 6 * , *", "0 6 * * ,",
	"  0   6\t*  *   * ", "0 6 * * MON-FRI/2", "0 6 * * 6/2", "0 6 * * 0-6/3", "0 6 1-7 * MON",
	"0 0 1 1 *", "0 0 31 12 *", "59 23 31 12 *", "0 6 * 2 1", "0 6 */10 * Sun", "30 08 ? Jul Sun",
	"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly",
}

// Schedules near a change of the clock.
var nightly = []string{
	"0 0 * * *", "15 0 * * *", "0 1 * * *", "30 1 * * *", "45 1 * * *", "0 2 * * *", "15 2 * * *", "30 2 * * *",
	"0 3 * * *", "0 6 * * *", "30 23 * * *", "@daily",
}

var frequent = []string{"*/30 * * * *", "0 * * * *", "45 0-3 * * *", "*/20 1,2 * * *"}

// Zones and a moment some days before a change of theirs.
var changes = []struct{ zone, from string }{
	{"Europe/Berlin", "2026-03-20"}, {"Europe/Berlin", "2026-10-15"},
	{"America/New_York", "2026-03-01"}, {"America/New_York", "2026-10-25"},
	{"Europe/Dublin", "2026-03-20"}, {"Europe/Dublin", "2026-10-15"},
	{"America/Sao_Paulo", "2018-10-28"}, {"America/Sao_Paulo", "2018-02-10"},
	{"America/Havana", "2024-03-03"}, {"America/Havana", "2024-10-27"},
	{"Asia/Beirut", "2022-03-20"}, {"Asia/Beirut", "2022-10-22"},
	{"Asia/Tehran", "2021-03-15"}, {"Asia/Tehran", "2021-09-15"},
	{"America/Santiago", "2022-09-04"}, {"America/Santiago", "2022-03-27"},
	{"Atlantic/Azores", "2024-03-24"}, {"Atlantic/Azores", "2024-10-20"},
	{"Africa/Casablanca", "2022-03-20"}, {"Africa/Casablanca", "2022-05-01"},
	{"Australia/Sydney", "2024-10-01"}, {"Australia/Sydney", "2024-04-01"},
	{"Australia/Lord_Howe", "2024-10-01"}, {"Australia/Lord_Howe", "2024-04-01"},
	{"Antarctica/Troll", "2024-03-24"}, {"Antarctica/Troll", "2024-10-20"},
	{"America/St_Johns", "2010-03-08"}, {"America/St_Johns", "2010-11-01"},
	{"Pacific/Apia", "2011-12-25"}, {"Asia/Kathmandu", "2024-03-24"}, {"Asia/Pyongyang", "2018-04-28"},
	{"America/Caracas", "2016-04-26"}, {"UTC", "2026-03-28"},
}

var out = bufio.NewWriter(os.Stdout)

func main() {
	defer out.Flush()
	for _, spec := range odd {
		verdict(spec)
	}
	for _, spec := range forms {
		verdict(spec)
		chain(spec, "UTC", "2026-11-27T05:59:59Z", 8)
	}
	for _, change := range changes {
		location, err := time.LoadLocation(change.zone)
		check(err)
		day, err := time.Parse("2006-01-02", change.from)
		check(err)
		at := transition(day, location)
		for _, spec := range nightly {
			chain(spec, change.zone, at.Add(-26*time.Hour).UTC().Format(time.RFC3339), 4)
		}
		for _, spec := range frequent {
			chain(spec, change.zone, at.Add(-150*time.Minute).UTC().Format(time.RFC3339), 12)
		}
	}
}

// The first change of the offset within forty days, or day itself.
func transition(day time.Time, location *time.Location) time.Time {
	_, before := day.In(location).Zone()
	for at := day; at.Before(day.AddDate(0, 0, 40)); at = at.Add(time.Minute) {
		if _, offset := at.In(location).Zone(); offset != before {
			return at
		}
	}
	return day
}

func verdict(spec string) {
	_, err := cron.ParseStandard(spec)
	answer := "valid"
	if err != nil {
		answer = "invalid"
	}
	row("parse", spec, "", "", answer)
}

func chain(spec, zone, from string, runs int) {
	schedule, err := cron.ParseStandard("TZ=" + zone + " " + spec)
	if err != nil {
		return
	}
	at, err := time.Parse(time.RFC3339, from)
	check(err)
	var times []string
	for i := 0; i < runs; i++ {
		at = schedule.Next(at)
		if at.IsZero() {
			times = append(times, "never")
			break
		}
		times = append(times, at.UTC().Format(time.RFC3339))
	}
	row("runs", spec, zone, from, strings.Join(times, " "))
}

func row(cells ...string) {
	for i, cell := range cells {
		cells[i] = strings.ReplaceAll(cell, "\t", "\\t")
	}
	fmt.Fprintln(out, strings.Join(cells, "\t"))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

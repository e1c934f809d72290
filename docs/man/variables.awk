# variables.awk - src/base/variables.def for readers.
#   awk -f variables.awk -v form=man variables.def        the entries of shmccl(7)
#   awk -f variables.awk -v form=markdown variables.def   the table of README.md
#   awk -f variables.awk -v form=names variables.def      all names, those of tests too, one a line
function man(text) {
  gsub(/\\/, "\\e", text)
  gsub(/-/, "\\-", text)
  while (match(text, /`[^`]*`/))
    text = substr(text, 1, RSTART - 1) "\\fB" substr(text, RSTART + 1, RLENGTH - 2) "\\fR" substr(text, RSTART + RLENGTH)
  return text
}
function literal(text) { return text ~ / / ? text : "`" text "`" } # prose has blanks
function print_row(row,   head, door, initial, unit, meaning, field) {
  # VARIABLE(NAME, "initial", "unit", DOOR, "meaning")
  split(row, field, "\"")
  split(field[1], head, /[(,]/)
  split(field[5], door, /[ ,]+/)
  initial = field[2]
  unit = initial ~ / / || field[4] == "" ? "" : " " field[4]
  meaning = field[6]
  if (form == "names") { print head[2]; return }
  if (door[2] == "TESTS") return
  if (form == "man")
    printf ".TP\n.B %s\n%s.\nDefault: %s%s.\n", head[2], man(meaning), man(literal(initial)), unit
  else
    printf "| `%s` | %s%s | %s |\n", head[2], literal(initial), unit, meaning
}
BEGIN { if (form == "markdown") print "| variable | default | meaning |\n|---|---|---|" }
/^VARIABLE\(/ { row = "" }
/^VARIABLE\(/, /\)$/ {
  sub(/^ +/, " ")
  row = row $0
  if (row ~ /"\)$/) { print_row(row); row = "" }
}

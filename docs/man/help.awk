# help.awk - a manual page of section 1 from what a program prints for --help, so that flags are described once.
#   program --help | awk -f help.awk -v name=shmccl-perf -v about="what it does" -v version=0.1.0
#
# "usage:" is the synopsis; a line at the margin with indented ones below it is a heading, or, if text follows its colon,
# a paragraph that they go on with; an indented line is an entry, its text two spaces or more behind what it is about;
# what is indented further goes on with the entry before.
function escape(text) {
  gsub(/\\/, "\\e", text)
  gsub(/-/, "\\-", text)
  sub(/^[.']/, "\\\\\\&&", text)
  return text
}
BEGIN {
  printf ".TH %s 1 \"\" \"shmccl %s\" \"shmccl\"\n", toupper(name), version
  printf ".SH NAME\n%s \\- %s\n", escape(name), escape(about)
}
function put(line, below,   at) {
  if (line == "") {
    print ".PP"
    goes_on = 0
  } else if (line ~ /^usage: /) {
    print ".SH SYNOPSIS\n.B " escape(substr(line, 8)) "\n.SH DESCRIPTION"
  } else if (line ~ /^[^ ]/) {
    goes_on = below ~ /^ / && line ~ /: ./
    if (below ~ /^ / && !goes_on) {
      sub(/:$/, "", line)
      print ".SH " escape(line)
    } else print (line ~ /^[A-Z]+: / ? ".br\n" : "") escape(line)
  } else {
    at = match(line, /[^ ]/)
    line = substr(line, at)
    if (at > 9 || goes_on) { print escape(line); return }
    at = match(line, /   *[^ ]/)
    print ".TP\n.B " escape(at ? substr(line, 1, at - 1) : line)
    if (at) print escape(substr(line, at + RLENGTH - 1))
  }
}
NR > 1 { put(before, $0) }
{ before = $0 }
END {
  put(before, "")
  print ".SH SEE ALSO\n.BR shmccl (7)"
}

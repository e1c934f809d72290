# help.awk - a manual page of section 1 from what a program prints for --help, so that flags are described once.
#   program --help | awk -f help.awk -v name=shmccl-perf -v about="what it does" -v version=0.1.0
#
# "usage:" is the synopsis; a line at the margin that ends with a colon is a heading; an indented line is an entry, its
# text two spaces or more behind what it is about; what is indented further goes on with the entry before.
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
/^usage: / {
  sub(/^usage: /, "")
  print ".SH SYNOPSIS\n.B " escape($0) "\n.SH DESCRIPTION"
  next
}
/^$/ { print ".PP"; next }
/^[^ ].*:$/ {
  sub(/:$/, "")
  print ".SH " escape(toupper(substr($0, 1, 1)) substr($0, 2))
  next
}
/^          / { sub(/^ +/, ""); print escape($0); next }
/^  / {
  sub(/^ +/, "")
  at = match($0, /   *[^ ]/)
  print ".TP\n.B " escape(at ? substr($0, 1, at - 1) : $0)
  if (at) print escape(substr($0, at + RLENGTH - 1))
  next
}
{ print escape($0) }
END { print ".SH SEE ALSO\n.BR shmccl (7)," (name == "shmccl-perf" ? "\n.BR shmccl\\-info (1)" : "\n.BR shmccl\\-perf (1)") }

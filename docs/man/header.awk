# header.awk - shmccl(3) from include/shmccl.h, whose comments are the manual.
#   awk -f header.awk -v version=0.1.0 shmccl.h
#
# The first comment is the overview; "/* ---- title ---- */" begins a section; a comment belongs to the code below it,
# up to the next empty line or comment.
function escape(text) {
  gsub(/\\/, "\\e", text)
  gsub(/-/, "\\-", text)
  sub(/^[.']/, "\\\\\\&&", text)
  return text
}
function put_code(   i) {
  print ".nf"
  for (i = 1; i <= ncode; i++) print "\\fB" escape(code[i]) "\\fR"
  print ".fi"
}
function flush() {
  if (ncode) { print ".PP"; put_code() }
  if (ncomment) {
    print ncode ? ".RS 4" : ".PP"
    for (i = 1; i <= ncomment; i++) print escape(comment[i])
    if (ncode) print ".RE"
  }
  ncode = ncomment = 0
}
function overview(line) {
  if (line == "") print ".PP"
  else if (line ~ /^[^ ]/) { end_code(); print ".SH " escape(toupper(substr(line, 1, 1)) substr(line, 2)) }
  else if (line ~ /^    [^ ]/) { if (!in_code) print ".nf"; in_code = 1; print escape(line) }
  else if (match(line, /^  [A-Z][a-z]+  +/)) {
    end_code()
    print ".TP\n.B " substr(line, 3, index(substr(line, 3), " ") - 1) "\n" escape(substr(line, RLENGTH + 1))
  } else { end_code(); sub(/^ +/, "", line); print escape(line) }
}
function end_code() { if (in_code) print ".fi"; in_code = 0 }

# The names of all functions, for the NAME section: a first reading.
FNR == NR {
  if (match($0, /shmccl_[a-z_]+\(/) && ($0 ~ /^SHMCCL_API/ || was_api)) names = names ", " substr($0, RSTART, RLENGTH - 1)
  was_api = $0 ~ /^SHMCCL_API/ && $0 !~ /\(/
  next
}
FNR == 1 {
  printf ".TH SHMCCL 3 \"\" \"shmccl %s\" \"shmccl\"\n.nh\n.ad l\n.SH NAME\n", version
  printf "shmccl%s \\- collectives between the ranks of one host\n", names
  print ".SH SYNOPSIS\n.nf\n.B #include <shmccl.h>\n.fi\n.PP\nLink with \\fB\\-lshmccl\\fR."
  part = "overview"
  next
}
part == "overview" && / \*\/$/ { end_code(); part = "guard"; next }
part == "overview" {
  sub(/^ \*( |$)/, "")
  if (FNR > 2 && !(FNR == 3 && $0 == "")) overview($0)
  next
}
/^\/\* ---- .* -* \*\/$/ {
  flush()
  part = "body"
  sub(/^\/\* ---- /, "")
  sub(/ -+ \*\/$/, "")
  print ".SH " escape(toupper(substr($0, 1, 1)) substr($0, 2))
  next
}
part != "body" { next }
/^#ifdef __cplusplus/ { flush(); exit }
/^$/ { flush(); next }
/^\/\*/ { flush(); in_comment = 1 }
in_comment {
  in_comment = $0 !~ /\*\/$/
  sub(/^(\/\*| \*) ?/, "")
  sub(/ *\*\/$/, "")
  if ($0 != "") comment[++ncomment] = $0
  next
}
{
  sub(/^SHMCCL_API /, "")
  sub(/ *\\$/, "")
  code[++ncode] = $0
}

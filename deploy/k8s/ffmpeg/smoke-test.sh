#!/bin/sh
# Encodes a test picture with NVENC after scale_cuda, then transcodes the result with NVDEC as well.
set -eu
ffmpeg=/opt/ffmpeg/bin/ffmpeg
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "== scale_cuda and h264_nvenc"
"$ffmpeg" -hide_banner -loglevel error -init_hw_device cuda -f lavfi -i testsrc2=duration=2:size=1280x720:rate=30 \
  -vf "format=nv12,hwupload_cuda,scale_cuda=854:480" -c:v h264_nvenc -preset p1 -cq 28 -y "$work/first.mp4"
echo "== decoded, scaled and encoded on the GPU"
"$ffmpeg" -hide_banner -loglevel error -hwaccel cuda -hwaccel_output_format cuda -threads 2 -i "$work/first.mp4" \
  -vf "scale_cuda=640:360" -c:v h264_nvenc -preset p1 -cq 28 -y "$work/second.mp4"
test -s "$work/second.mp4"
echo "== transcoding works"

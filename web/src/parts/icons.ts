/** The icons that the page uses, out of Lucide (ISC); each name is what it means here. */

import arrowUp from 'lucide/dist/esm/icons/arrow-up.mjs';
import ban from 'lucide/dist/esm/icons/ban.mjs';
import camera from 'lucide/dist/esm/icons/camera.mjs';
import check from 'lucide/dist/esm/icons/check.mjs';
import chevronDown from 'lucide/dist/esm/icons/chevron-down.mjs';
import chevronLeft from 'lucide/dist/esm/icons/chevron-left.mjs';
import chevronRight from 'lucide/dist/esm/icons/chevron-right.mjs';
import circle from 'lucide/dist/esm/icons/circle.mjs';
import circleCheck from 'lucide/dist/esm/icons/circle-check.mjs';
import circleDashed from 'lucide/dist/esm/icons/circle-dashed.mjs';
import circlePause from 'lucide/dist/esm/icons/circle-pause.mjs';
import circlePlay from 'lucide/dist/esm/icons/circle-play.mjs';
import circleX from 'lucide/dist/esm/icons/circle-x.mjs';
import clock from 'lucide/dist/esm/icons/clock.mjs';
import columnsThree from 'lucide/dist/esm/icons/columns-3.mjs';
import copy from 'lucide/dist/esm/icons/copy.mjs';
import database from 'lucide/dist/esm/icons/database.mjs';
import download from 'lucide/dist/esm/icons/download.mjs';
import ellipsis from 'lucide/dist/esm/icons/ellipsis.mjs';
import externalLink from 'lucide/dist/esm/icons/external-link.mjs';
import file from 'lucide/dist/esm/icons/file.mjs';
import folderOpen from 'lucide/dist/esm/icons/folder-open.mjs';
import funnel from 'lucide/dist/esm/icons/funnel.mjs';
import gitCompare from 'lucide/dist/esm/icons/git-compare.mjs';
import image from 'lucide/dist/esm/icons/image.mjs';
import info from 'lucide/dist/esm/icons/info.mjs';
import keyRound from 'lucide/dist/esm/icons/key-round.mjs';
import keyboard from 'lucide/dist/esm/icons/keyboard.mjs';
import list from 'lucide/dist/esm/icons/list.mjs';
import loaderCircle from 'lucide/dist/esm/icons/loader-circle.mjs';
import logOut from 'lucide/dist/esm/icons/log-out.mjs';
import monitor from 'lucide/dist/esm/icons/monitor.mjs';
import moon from 'lucide/dist/esm/icons/moon.mjs';
import pause from 'lucide/dist/esm/icons/pause.mjs';
import pencil from 'lucide/dist/esm/icons/pencil.mjs';
import play from 'lucide/dist/esm/icons/play.mjs';
import plus from 'lucide/dist/esm/icons/plus.mjs';
import refreshCw from 'lucide/dist/esm/icons/refresh-cw.mjs';
import rotateCcw from 'lucide/dist/esm/icons/rotate-ccw.mjs';
import save from 'lucide/dist/esm/icons/save.mjs';
import scanEye from 'lucide/dist/esm/icons/scan-eye.mjs';
import search from 'lucide/dist/esm/icons/search.mjs';
import server from 'lucide/dist/esm/icons/server.mjs';
import settings from 'lucide/dist/esm/icons/settings.mjs';
import star from 'lucide/dist/esm/icons/star.mjs';
import sun from 'lucide/dist/esm/icons/sun.mjs';
import trash from 'lucide/dist/esm/icons/trash.mjs';
import triangleAlert from 'lucide/dist/esm/icons/triangle-alert.mjs';
import upload from 'lucide/dist/esm/icons/upload.mjs';
import wifiOff from 'lucide/dist/esm/icons/wifi-off.mjs';
import x from 'lucide/dist/esm/icons/x.mjs';
import zap from 'lucide/dist/esm/icons/zap.mjs';

export const icons = {
  back: chevronLeft,
  camera: camera,
  check: check,
  clock: clock,
  columns: columnsThree,
  compare: gitCompare,
  copy: copy,
  datasets: database,
  down: chevronDown,
  download: download,
  external: externalLink,
  failed: circleX,
  file: file,
  filter: funnel,
  folder: folderOpen,
  forward: chevronRight,
  half: loaderCircle,
  image: image,
  info: info,
  jobs: list,
  key: keyRound,
  keyboard: keyboard,
  leave: logOut,
  monitor: monitor,
  moon: moon,
  more: ellipsis,
  offline: wifiOff,
  pause: pause,
  paused: circlePause,
  pencil: pencil,
  play: play,
  plus: plus,
  predict: scanEye,
  refresh: refreshCw,
  retry: rotateCcw,
  ring: circle,
  running: circlePlay,
  save: save,
  search: search,
  settings: settings,
  slash: ban,
  star: star,
  succeeded: circleCheck,
  sun: sun,
  trash: trash,
  up: arrowUp,
  upload: upload,
  waiting: circleDashed,
  warning: triangleAlert,
  x: x,
  yard: server,
  zap: zap,
} as const;

export type IconName = keyof typeof icons;
